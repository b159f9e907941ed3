"""Tests of reading MIGRATION_ROUTE and of reporting all its mistakes together."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_route import conf
from migration_route.conf import (
    DatabaseSettings,
    RouteSettings,
    read_settings,
    route_settings,
)
from migration_route.core.enums import ActorKind, Scope
from migration_route.core.values import (
    ApprovalPolicy,
    HealthSettings,
    Rule,
    SignalName,
    When,
)

SHA = "a" * 64
TOKEN: dict[str, Any] = {"name": "ci", "sha256": SHA, "scopes": ["read"]}


@pytest.fixture(autouse=True)
def _no_build(monkeypatch):
    for name in conf.BUILD_VARIABLES:
        monkeypatch.delenv(name, raising=False)


def problems(**values: object) -> tuple[str, ...]:
    return read_settings(values).problems


def test_nothing_needs_to_be_set():
    """Without any key, every value is its default and there is no problem."""
    assert read_settings({}) == RouteSettings()
    assert RouteSettings() == RouteSettings(
        launcher="process",
        ledger_database="default",
        heartbeat_timeout=timedelta(seconds=15),
        max_request_wait=timedelta(seconds=20),
        run_lock_timeout=timedelta(seconds=60),
        tokens=(),
        build=None,
        ready_when_ahead=True,
        problems=(),
    )


def test_every_key_is_read():
    """Each set value is read into its own type."""
    found = read_settings(
        {
            "LAUNCHER": "project.launchers.Mine",
            "LEDGER_DATABASE": "other",
            "HEARTBEAT_TIMEOUT": "5s",
            "MAX_REQUEST_WAIT": "1m",
            "RUN_LOCK_TIMEOUT": "500ms",
            "TOKENS": [{**TOKEN, "databases": ["other"], "expires": "2027-01-01"}],
            "BUILD": "v1",
            "READY_WHEN_AHEAD": False,
            "READY_DATABASES": ["other"],
        }
    )
    assert found == RouteSettings(
        launcher="project.launchers.Mine",
        ledger_database="other",
        heartbeat_timeout=timedelta(seconds=5),
        max_request_wait=timedelta(minutes=1),
        run_lock_timeout=timedelta(milliseconds=500),
        tokens=(
            conf.Token(
                name="ci",
                sha256=(SHA,),
                scopes=frozenset({Scope.READ}),
                databases=frozenset({"other"}),
                expires=date(2027, 1, 1),
            ),
        ),
        build="v1",
        ready_when_ahead=False,
        ready_databases=frozenset({"other"}),
    )


WRONG: dict[str, list[Any]] = {
    "LAUNCHER": ["", 5, None, "nonsense"],
    "LEDGER_DATABASE": ["", 5, None, "nowhere"],
    "HEARTBEAT_TIMEOUT": [
        15,
        "15",
        "",
        "0s",
        b"15s",
        timedelta(seconds=15),
        "9" * 20 + "d",
        ["15s"],
    ],
    "MAX_REQUEST_WAIT": ["soon", 0],
    "RUN_LOCK_TIMEOUT": ["-1s", 1.5],
    "TOKENS": [
        "secret",
        {"name": "ci"},
        ["secret"],
        [{**TOKEN, "name": ""}],
        [{**TOKEN, "name": 5}],
        [{**TOKEN, "sha256": "abc"}],
        [{**TOKEN, "sha256": "g" * 64}],
        [{**TOKEN, "sha256": None}],
        [{**TOKEN, "scopes": []}],
        [{**TOKEN, "scopes": "read"}],
        [{**TOKEN, "scopes": ["reed"]}],
        [{**TOKEN, "scopes": [["read"]]}],
        [{**TOKEN, "scopes": ["approve"]}],
        [{**TOKEN, "scopes": ["read", "force"]}],
        [{**TOKEN, "scopes": ["resolve"]}],
        [{**TOKEN, "databases": "default"}],
        [{**TOKEN, "databases": [1]}],
        [{**TOKEN, "expires": "tomorrow"}],
        [{**TOKEN, "expires": 2027}],
        [{**TOKEN, "secret": "x"}],
        [{**TOKEN, 5: "x", "y": 1}],
        [{k: v for k, v in TOKEN.items() if k != "scopes"}],
    ],
    "BUILD": ["", 5],
    "READY_WHEN_AHEAD": ["yes", 1, None],
    "READY_DATABASES": ["default", 5, ["nowhere"], [["default"]]],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_one_problem_and_leaves_the_default(key, value):
    """A wrong value is reported under the name of its key; no exception is raised."""
    found = read_settings({key: value})
    (problem,) = found.problems
    assert key in problem
    if key == "TOKENS":
        assert found.tokens == ()


def test_everything_wrong_is_told_together():
    """All mistakes can be fixed in one pass."""
    values = {key: wrong[0] for key, wrong in WRONG.items()}
    found = problems(**values, UNKNOWN=1)
    assert len(found) == len(WRONG) + 1
    assert all(any(key in problem for problem in found) for key in [*WRONG, "UNKNOWN"])


@pytest.mark.parametrize("values", [None, [], "x", 5])
def test_settings_that_are_no_dict_are_a_problem(values):
    assert read_settings(values).problems == ("MIGRATION_ROUTE must be a dict.",)


def test_an_unknown_key_is_told_with_the_known_ones():
    """An unknown key is reported with the known keys."""
    (problem,) = problems(LAUNCHR="inline")
    assert "'LAUNCHR'" in problem
    assert "LAUNCHER" in problem


def names(kind: Any) -> list[str]:
    """Return the fields that hold settings."""
    return [f.name for f in fields(kind) if f.name not in {"problems", "number"}]


@pytest.mark.parametrize(
    ("wrong", "keys"),
    [
        ({"TYPO": 1}, sorted(name.upper() for name in names(RouteSettings))),
        ({"DATABASES": {"default": {"TYPO": 1}}}, names(DatabaseSettings)),
        ({"HEALTH": {"TYPO": 1}}, names(HealthSettings)),
        ({"APPROVALS": {"TYPO": 1}}, names(Rule)),
    ],
)
def test_the_keys_are_the_fields_of_the_settings(wrong, keys):
    """A problem lists every field as a valid key, and nothing else."""
    (problem,) = problems(**wrong)
    assert problem.endswith(f"'TYPO' is not a valid key. Valid keys: {', '.join(keys)}.")


def test_a_database_has_limits_of_its_own():
    """A setting of one alias applies to that alias; the others keep the defaults."""
    found = read_settings(
        {
            "DATABASES": {
                "default": {
                    "direct_alias": "other",
                    "lock_timeout": "1s",
                    "blocking_budget": "5s",
                    "in_place_timeout": "2s",
                    "lock_retry_timeout": "1m",
                    "allow_terminate_blockers": True,
                }
            }
        }
    )
    assert found.problems == ()
    assert found.database("default") == DatabaseSettings(
        direct_alias="other",
        lock_timeout=timedelta(seconds=1),
        blocking_budget=timedelta(seconds=5),
        in_place_timeout=timedelta(seconds=2),
        lock_retry_timeout=timedelta(minutes=1),
        allow_terminate_blockers=True,
    )
    assert found.database("other") == DatabaseSettings()
    assert found.direct_aliases == {"other"}


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({"nowhere": {}}, "nowhere"),
        ({"default": {"direct_alias": "default"}}, "direct"),
        ({"default": {"direct_alias": "nowhere"}}, "direct"),
        ({"default": {"lock_timeout": 5}}, "lock_timeout"),
        ({"default": {"allow_terminate_blockers": "yes"}}, "allow_terminate_blockers"),
        ({"default": {"typo": 1}}, "typo"),
        ({"default": 5}, "default"),
        (5, "DATABASES"),
    ],
)
def test_a_wrong_limit_is_named(entry, word):
    """Each mistake is reported with its key."""
    (problem,) = read_settings({"DATABASES": entry}).problems
    assert word in problem


def test_a_direct_way_leads_straight_to_one_database():
    """A direct alias needs no direct alias itself, and cannot be the ledger's database
    under its own name."""
    entries = {"default": {"direct_alias": "other"}, "other": {"direct_alias": "default"}}
    assert any("has no direct alias itself" in text for text in problems(DATABASES=entries))
    found = problems(
        DATABASES={"default": {"direct_alias": "other"}}, LEDGER_DATABASE="other"
    )
    assert [text for text in found if text.startswith("LEDGER_DATABASE")]


def test_the_digest_of_a_token_may_be_written_in_capitals():
    """Some tools print digests in capitals."""
    (token,) = read_settings({"TOKENS": [{**TOKEN, "sha256": "A" * 64}]}).tokens
    assert token.sha256 == (SHA,)


def test_a_token_may_expire_at_a_moment():
    """A date and time is reduced to its day, so that it can be compared with today."""
    moment = datetime(2027, 1, 1, 12, tzinfo=UTC)
    found = read_settings({"TOKENS": [{**TOKEN, "expires": moment}]})
    if not found.problems:
        assert type(found.tokens[0].expires) is date


def test_a_wrong_token_is_named_by_its_place_and_the_others_stand():
    """One wrong entry does not disable the others."""
    found = read_settings({"TOKENS": [TOKEN, {**TOKEN, "sha256": "x"}]})
    assert [token.name for token in found.tokens] == ["ci"]
    assert found.problems[0].startswith("TOKENS[1]:")


@pytest.mark.parametrize("name", conf.BUILD_VARIABLES)
def test_the_build_comes_from_the_environment(name, monkeypatch):
    """Each platform has its own variable for the commit; the setting takes precedence."""
    monkeypatch.setenv(name, "abc123")
    assert read_settings({}).build == "abc123"
    assert read_settings({"BUILD": "v1"}).build == "v1"


@pytest.mark.parametrize("build", ["v1\n", "v1\r\nSet-Cookie: a=b", "b" * 201])
def test_a_build_that_fits_no_header_or_column_is_told(build, monkeypatch):
    """The build is sent in a header of every response and stored in every row."""
    assert problems(BUILD=build)
    monkeypatch.setenv("GIT_COMMIT", build)
    found = read_settings({}).build
    assert found is None or (found.isprintable() and len(found) <= 200)


@given(
    st.dictionaries(
        st.sampled_from(sorted(WRONG)) | st.text(max_size=5),
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=8)
        | st.binary(max_size=4)
        | st.lists(st.dictionaries(st.sampled_from(sorted(TOKEN)), st.text(max_size=3))),
        max_size=4,
    )
)
def test_no_settings_make_the_reading_fail(values):
    """Any value is either read or reported as a problem."""
    assert isinstance(read_settings(values), RouteSettings)


def test_the_settings_are_read_anew_when_they_change(settings):
    """Tests that override the settings take effect."""
    settings.MIGRATION_ROUTE = {"HEARTBEAT_TIMEOUT": "7s"}
    assert route_settings().heartbeat_timeout == timedelta(seconds=7)
    settings.MIGRATION_ROUTE = {"HEARTBEAT_TIMEOUT": "8s"}
    assert route_settings().heartbeat_timeout == timedelta(seconds=8)
    settings.MIGRATION_ROUTE = {}
    assert route_settings().heartbeat_timeout == timedelta(seconds=15)


def test_health_is_read_with_its_units():
    """Durations, numbers and names of signals; a key that is not set keeps its default."""
    found = read_settings(
        {
            "HEALTH": {
                "long_transaction": "5m",
                "connections": 0.5,
                "archive_waiting": 7,
                "ignore": ["dump", "disk"],
            }
        }
    )
    assert found.problems == ()
    assert found.health == HealthSettings(
        long_transaction=timedelta(minutes=5),
        connections=0.5,
        archive_waiting=7,
        ignore=frozenset({SignalName.DUMP, SignalName.DISK}),
    )
    assert read_settings({"HEALTH": None}).health is None
    assert read_settings({}).health == HealthSettings()


@pytest.mark.parametrize(
    ("health", "words"),
    [
        (7, ["must be a dict"]),
        ({"nonsense": 1}, ["'nonsense' is not a valid key"]),
        (
            {"check_interval": "soon", "connections": 0},
            ["'check_interval'", "'connections'"],
        ),
        ({"check_interval": "0s"}, ["longer than zero"]),
        ({"archive_waiting": 1.5}, ["an integer above 0"]),
        ({"connections": float("inf")}, ["a number above 0"]),
        ({"archive_waiting": True}, ["an integer above 0"]),
        ({"ignore": ["everything"]}, ["a list of signals"]),
        ({"ignore": "dump"}, ["a list of signals"]),
    ],
)
def test_what_is_wrong_in_health_is_told_all_at_once(health, words):
    """Each mistake names its key."""
    found = problems(HEALTH=health)
    assert len(found) == len(words)
    assert all(word in problem for word, problem in zip(words, found, strict=True))


XMAS = {
    "start": "2026-12-24T18:00:00+01:00",
    "end": "2027-01-02T06:00:00+01:00",
    "reason": "The holidays.",
}


def test_a_freeze_is_read_with_its_zone():
    """A freeze is a text or an aware time."""
    begins = datetime(2026, 12, 24, 17, tzinfo=UTC)
    found = read_settings({"FREEZES": [XMAS, {**XMAS, "start": begins}]})
    assert found.problems == ()
    assert [freeze.begins for freeze in found.freezes] == [begins, begins]
    assert found.freezes[0].reason == "The holidays."
    assert read_settings({"FREEZES": ()}).freezes == ()
    assert read_settings({"FREEZES": None}).problems == ()


@pytest.mark.parametrize(
    ("entry", "word"),
    [
        ({**XMAS, "start": "2026-12-24T18:00:00"}, "time zone"),
        ({**XMAS, "start": "Christmas"}, "must be a time"),
        ({**XMAS, "end": XMAS["start"]}, "must be after"),
        ({**XMAS, "reason": ""}, "'reason'"),
        ({"start": XMAS["start"], "end": XMAS["end"]}, "'reason'"),
        ({**XMAS, "when": "always"}, "unknown keys"),
        ("2026-12-24", "must be a dict"),
    ],
)
def test_a_freeze_that_cannot_be_read_is_named_and_freezes(entry, word):
    """An invalid freeze stays in force until it is corrected."""
    found = read_settings({"FREEZES": [XMAS, entry]})
    (problem,) = found.problems
    assert problem.startswith("FREEZES[1]: ")
    assert word in problem
    now = datetime.now(UTC)
    assert found.freezes[1].begins < now < found.freezes[1].ends


def test_freezes_that_are_no_list_freeze():
    """Nothing may change where the whole key is invalid."""
    found = read_settings({"FREEZES": "always"})
    assert len(found.problems) == len(found.freezes) == 1


def test_one_dict_is_the_one_rule_for_everything():
    """A dict is read as a single rule for everything; missing keys have the contract's
    defaults."""
    found = read_settings({"APPROVALS": {}})
    assert found.problems == ()
    assert found.approvals == ApprovalPolicy(rules=(Rule(),))
    assert read_settings({"APPROVALS": None}).approvals is None
    words: dict[str, Any] = {
        "required": 2,
        "when": "findings",
        "self_approval": True,
        "lifetime": "90m",
        "findings": ["destructive", "scans_table", "blocking", "squawk.ban-drop-column"],
        "permission": "shop.dba",
        "actors": ["token", "command"],
        "verbs": ("reverse",),
        "databases": {"default"},
    }
    approvals = read_settings({"APPROVALS": words}).approvals
    assert approvals is not None
    (rule,) = approvals.rules
    assert rule == Rule(
        required=2,
        when=When.FINDINGS,
        self_approval=True,
        lifetime=timedelta(minutes=90),
        findings=frozenset(words["findings"]),
        permission="shop.dba",
        actors=frozenset({ActorKind.TOKEN, ActorKind.COMMAND}),
        verbs=frozenset({Scope.REVERSE}),
        databases=frozenset({"default"}),
    )


def test_rules_are_read_in_their_order():
    """Each rule knows its position, by which a requirement names it; a custom permission is
    a right."""
    entries = [{"when": "never"}, {"permission": "migration_route.approve"}]
    found = read_settings({"APPROVALS": {"rules": entries}})
    assert found.problems == ()
    assert found.approvals is not None
    assert [(rule.number, rule.when) for rule in found.approvals.rules] == [
        (1, When.NEVER),
        (2, When.ALWAYS),
    ]
    assert found.approvals.rules[1].permission == "approve"
    assert found.approvals.permissions == frozenset()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("yes", "APPROVALS must be a dict"),
        ({"rules": "all"}, "'rules' must be a list of dicts"),
        ({"rules": ["all"]}, "APPROVALS['rules'][0]: must be a dict"),
        ({"rules": [], "required": 2}, "'required' must be in a rule"),
        ({"need": 1}, "'need' is not a valid key. Valid keys: databases, actors"),
        ({"databases": ["nowhere"]}, "contains 'nowhere', which is not an alias"),
        ({"databases": "default"}, "'databases' must be a list"),
        ({"databases": []}, "'databases' must be a list"),
        ({"actors": ["robot"]}, "contains 'robot', which is not one of token, user"),
        ({"verbs": ["read"]}, "contains 'read', which is not one of apply, reverse, fake"),
        ({"findings": ["destructve"]}, "contains 'destructve', which is not a code"),
        ({"findings": [["info"]]}, "contains ['info'], which is not a code"),
        ({"when": "sometimes"}, "'when' must be one of always, findings, never"),
        ({"when": ["always"]}, "'when' must be one of always, findings, never"),
        (
            {"when": "never", "findings": ["info"]},
            "a finding does not make a plan harmless",
        ),
        ({"required": 0}, "'required' must be an integer from 1 to 20"),
        ({"required": True}, "'required' must be an integer from 1 to 20"),
        ({"required": 21}, "'required' must be an integer from 1 to 20"),
        ({"permission": "admin"}, "'permission' must be 'approve' or a Django permission"),
        (
            {"permission": ["approve"]},
            "'permission' must be 'approve' or a Django permission",
        ),
        ({"self_approval": "no"}, "'self_approval' must be True or False"),
        ({"lifetime": "soon"}, "'lifetime' must be a duration such as '24h'"),
        ({"lifetime": "0s"}, "'lifetime' must be a duration such as '24h'"),
        ({"lifetime": "9999d"}, "'lifetime' must be a duration such as '24h'"),
        ({"lifetime": 3600}, "'lifetime' must be a duration such as '24h'"),
    ],
    ids=str,
)
def test_what_is_wrong_in_approvals_is_said_and_fails_closed(value, words):
    """The check names the mistake, and the policy knows that it is invalid."""
    found = read_settings({"APPROVALS": value})
    assert any(words in problem for problem in found.problems), found.problems
    assert found.approvals is not None
    assert found.approvals.problems == found.problems


def test_all_faults_in_approvals_are_told_together():
    """All mistakes of a policy can be fixed in one pass."""
    entries = [{"required": 0, "when": "x"}, {"lifetime": "x", "who": 1}]
    found = problems(APPROVALS={"rules": entries})
    assert len(found) == 4
    assert sum("['rules'][1]" in text for text in found) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("15m", timedelta(minutes=15)),
        ("90s", timedelta(seconds=90)),
        ("shop.access.fresh", "shop.access.fresh"),
        (None, None),
    ],
)
def test_how_fresh_a_login_has_to_be_is_read(given, expected):
    """A duration, a dotted path, or None for off; the default is fifteen minutes."""
    assert read_settings({"REAUTHENTICATION": given}).reauthentication == expected
    assert read_settings({}).reauthentication == timedelta(minutes=15)


@pytest.mark.parametrize("wrong", [False, True, 15, "", "0s", "soon", "a..b", "1.5x", []])
def test_what_cannot_be_read_asks_as_usual(wrong):
    """An invalid value is reported, and the default applies."""
    found = read_settings({"REAUTHENTICATION": wrong})
    assert found.reauthentication == timedelta(minutes=15)
    assert any(text.startswith("REAUTHENTICATION must be") for text in found.problems)
