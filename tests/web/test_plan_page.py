"""Tests that the plan is shown as it is, and executed exactly as it was read."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from functools import partial

import pytest
from django.test import Client
from django.urls import reverse

from migration_route.core.enums import RunState, Scope
from migration_route.core.errors import DatabaseUnavailable
from migration_route.ledger import queries
from migration_route.ledger.records import RunRecord
from migration_route.planning.plan import Details
from tests.factories import History, create_model, tables, vendor
from tests.web.conftest import SignIn

PLAN = reverse("migration_route:plan")
APPLY = reverse("migration_route:apply")


def form_of(text: str) -> dict[str, str]:
    """Return the hidden fields of the form that applies."""
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', text))


def read(client: Client, **query: str) -> str:
    """Return the page of a plan."""
    answer = client.get(PLAN, query)
    assert answer.status_code == 200
    return answer.content.decode()


def test_nothing_to_do_is_said_calmly(everyone_can: Client) -> None:
    """Without a form, since there is nothing to apply."""
    text = read(everyone_can)
    assert "Nothing to do." in text
    assert f'action="{APPLY}"' not in text


def test_steps_come_in_order_with_their_sql_and_what_is_opaque(
    everyone_can: Client, history: History
) -> None:
    """What is known is shown, and the rest is marked."""
    history.table("0001_initial", "shelf")
    history.python("0002_fill", "print('filled')")
    text = read(everyone_can)
    assert text.index("testapp.0001_initial</h3>") < text.index("testapp.0002_fill</h3>")
    sql = html.unescape(re.sub(r"</?span[^>]*>", "", text))
    assert "<code>CREATE TABLE shelf (id integer);\n</code>" in sql
    assert text.count(">runs code</span>") == 1
    assert ">irreversible</span>" in text


def test_a_long_plan_leads_to_its_next_piece(
    everyone_can: Client, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within no time only the first step has details; the link loads the rest."""
    monkeypatch.setattr("migration_route.web.forms.Details", partial(Details, budget=-1.0))
    history.table("0001_a", "made_a")
    history.table("0002_b", "made_b")
    text = read(everyone_can, target="testapp")
    assert ("made_a" in text, "made_b" in text) == (True, False)
    assert text.count(" data-detailed") == 1
    (link,) = re.findall(r'data-further><a href="([^"]+)"', text)
    further = everyone_can.get(html.unescape(link)).content.decode()
    assert ("made_a" in further, "made_b" in further) == (False, True)
    assert "data-further" not in further


def test_findings_stand_above_the_steps_the_gravest_first(
    everyone_can: Client, history: History
) -> None:
    """Warnings come before remarks, and both before the button."""
    history.python("0001_initial", "pass", body="atomic = False")
    text = read(everyone_can)
    places = [
        text.index(word)
        for word in (
            "ddl_commits" if vendor() == "mysql" else "not_atomic",
            "one_way",
            "testapp.0001_initial</h3>",
            "Apply 1 migration",
        )
    ]
    assert places == sorted(places)


def test_the_button_says_exactly_what_it_does(
    everyone_can: Client, history: History
) -> None:
    """Its label contains the number and the database."""
    history.table("0001_initial", "shelf")
    history.table("0002_more", "shelf_2")
    assert "Apply 2 migrations to default</button>" in read(everyone_can)
    assert "Apply 1 migration to default</button>" in read(
        everyone_can, target="testapp.0001_initial"
    )


def test_a_plan_can_be_read_by_those_who_may_not_apply_it(
    sign_in: SignIn, history: History
) -> None:
    """They see the missing right instead of a button that would not work."""
    history.table("0001_initial", "shelf")
    text = read(sign_in(Scope.PLAN))
    assert f'action="{APPLY}"' not in text
    assert "migration_route.apply" in text


def test_what_was_read_is_applied(everyone_can: Client, inline: History) -> None:
    """The form contains the fingerprint; the response is the page of the run."""
    inline.table("0001_initial", "shelf")
    form = {**form_of(read(everyone_can)), "reason": "a new shelf"}
    answer = everyone_can.post(APPLY, form)
    assert answer.status_code == 302
    (run,) = queries.list_runs(database=None, before=None, limit=9)
    assert answer["Location"] == reverse("migration_route:run", kwargs={"run": run.id})
    assert (run.state, run.reason, run.actor_name) == (
        RunState.SUCCEEDED,
        "a new shelf",
        "ada",
    )
    assert "shelf" in tables()


def test_a_form_that_is_sent_twice_starts_one_run(
    everyone_can: Client, inline: History
) -> None:
    """The second submission leads to the same run."""
    inline.table("0001_initial", "shelf")
    form = {**form_of(read(everyone_can)), "reason": ""}
    first, second = (everyone_can.post(APPLY, form) for _ in range(2))
    assert first["Location"] == second["Location"]
    assert len(queries.list_runs(database=None, before=None, limit=9)) == 1


def test_a_plan_that_has_changed_comes_back_to_be_read(
    everyone_can: Client, inline: History
) -> None:
    """Nothing is applied; the current plan is shown, with a new form."""
    inline.table("0001_initial", "shelf")
    form = {**form_of(read(everyone_can)), "reason": "kept words"}
    inline.table("0002_late", "late")
    answer = everyone_can.post(APPLY, form)
    text = answer.content.decode()
    assert answer.status_code == 409
    assert "Nothing was applied." in text
    assert "testapp.0002_late</h3>" in text
    assert "kept words</textarea>" in text
    assert form_of(text)["fingerprint"] != form["fingerprint"]
    assert queries.list_runs(database=None, before=None, limit=9) == []
    assert "shelf" not in tables()


@pytest.mark.parametrize("fingerprint", ["", "nonsense"])
def test_a_form_without_its_fingerprint_applies_nothing(
    everyone_can: Client, inline: History, fingerprint: str
) -> None:
    """Only a plan that was read can be applied."""
    inline.table("0001_initial", "shelf")
    answer = everyone_can.post(APPLY, {"database": "default", "fingerprint": fingerprint})
    assert answer.status_code in (400, 428)
    assert "shelf" not in tables()


def test_targets_travel_with_the_form(everyone_can: Client, inline: History) -> None:
    """A part of the plan stays that part."""
    inline.table("0001_initial", "shelf")
    inline.table("0002_more", "shelf_2")
    form = form_of(read(everyone_can, target="testapp.0001_initial"))
    assert form["target"] == "testapp.0001_initial"
    assert everyone_can.post(APPLY, form).status_code == 302
    assert tables() >= {"shelf"}
    assert "shelf_2" not in tables()


def test_going_back_looks_dangerous_and_is_refused_to_those_without_the_right(
    everyone_can: Client, inline: History
) -> None:
    """Another color, another label, and the name of the database to type."""
    inline.table("0001_initial", "shelf")
    everyone_can.post(APPLY, form_of(read(everyone_can)))
    text = read(everyone_can, target="testapp.zero")
    assert "Reverse 1 migration on default</button>" in text
    assert "mr-button--danger" in text
    assert 'id="confirm" name="confirm" required' in text


def test_going_back_needs_its_own_right(
    sign_in: SignIn, inline: History, apply_everything: Callable[[], None]
) -> None:
    """With `apply` alone there is no button, and the form is refused."""
    inline.table("0001_initial", "shelf")
    apply_everything()
    client = sign_in(Scope.APPLY)
    text = read(client, target="testapp.zero")
    assert "migration_route.reverse" in text
    assert f'action="{APPLY}"' not in text
    found = re.search(r"[0-9a-f]{12}-[0-9a-f]{64}", text)
    form = {"target": "testapp.zero", "fingerprint": found[0] if found else ""}
    answer = client.post(APPLY, form)
    assert answer.status_code in (403, 409, 428)
    assert "shelf" in tables()


def test_a_form_without_a_token_of_this_site_is_refused(
    sign_in: SignIn, inline: History
) -> None:
    """Another site cannot submit the form."""
    inline.table("0001_initial", "shelf")
    client = sign_in(*Scope, csrf=True)
    text = read(client)
    form = form_of(text)
    forged = {name: value for name, value in form.items() if name != "csrfmiddlewaretoken"}
    answer = client.post(APPLY, forged)
    assert answer.status_code == 403
    assert b"csrf" in answer.content
    assert "shelf" not in tables()
    assert client.post(APPLY, form).status_code == 302
    assert "shelf" in tables()


def test_a_run_that_owns_the_database_is_named(
    everyone_can: Client, inline: History, a_run: Callable[..., object]
) -> None:
    """A refusal links to the active run."""
    inline.table("0001_initial", "shelf")
    form = form_of(read(everyone_can))
    run = a_run()
    answer = everyone_can.post(APPLY, form)
    assert answer.status_code == 409
    assert f"/migrations/runs/{run.id}/" in answer.content.decode()  # type: ignore[attr-defined]


def test_an_accepted_finding_is_shown_with_its_reason(
    everyone_can: Client, history: History
) -> None:
    """It has less weight, but is visible without reading the code."""
    history.write(
        "0001_initial",
        "migrations.RunSQL('DELETE FROM testapp_book', '')",
        body="accepted_findings = {'drops_rows': 'They are <old> & empty.'}",
    )
    text = read(everyone_can)
    assert "Accepted by the migration: They are &lt;old&gt; &amp; empty." in text
    assert "testapp.0001_initial, operation 1" in text


def test_a_plan_that_loses_data_is_called_dangerous(
    everyone_can: Client, history: History
) -> None:
    """A plan that loses data is dangerous; another one needs no typed name."""
    history.table("0001_initial", "shelf")
    calm = read(everyone_can, target="testapp.0001_initial")
    assert 'data-risk="dangerous">dangerous</span>' not in calm
    assert 'name="confirm"' not in calm
    history.write("0002_drop", "migrations.RunSQL('DELETE FROM testapp_book', '')")
    text = read(everyone_can)
    assert 'data-risk="dangerous">dangerous</span>' in text
    assert 'data-group="drops_rows"' in text
    assert text.index("data-verdict") < text.index("testapp.0001_initial</h3>")


def test_a_dangerous_plan_is_applied_only_with_the_name_of_the_database(
    everyone_can: Client, inline: History
) -> None:
    """With another name nothing is applied, and the reason is kept."""
    inline.write("0001_drop", "migrations.RunSQL('DELETE FROM testapp_book', '')")
    form = {**form_of(read(everyone_can)), "reason": "kept words", "confirm": "shop"}
    answer = everyone_can.post(APPLY, form)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "&#x27;shop&#x27; is not &#x27;default&#x27;." in text
    assert "kept words</textarea>" in text
    assert queries.list_runs(database=None, before=None, limit=9) == []
    assert everyone_can.post(APPLY, {**form, "confirm": "default"}).status_code == 302
    (run,) = queries.list_runs(database=None, before=None, limit=9)
    assert run.state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RunState.QUEUED, "A run is queued."),
        (RunState.AWAITING_APPROVAL, "A request waits for approval."),
        (RunState.PARTIAL, "A run stopped partway through a step."),
    ],
)
def test_a_run_that_occupies_the_database_replaces_the_button(
    everyone_can: Client,
    history: History,
    a_run: Callable[..., RunRecord],
    state: RunState,
    words: str,
) -> None:
    """The page leads to that run instead."""
    history.table("0001_initial", "shelf")
    run = a_run(state, reason="Release 41")
    text = read(everyone_can)
    assert words in text
    assert "Release 41" in text
    assert f'action="{APPLY}"' not in text
    assert reverse("migration_route:run", kwargs={"run": run.id}) in text


def test_the_last_failure_is_named_at_its_step(
    everyone_can: Client, inline: History
) -> None:
    """The step shows the error of the last attempt, and the form stays."""
    inline.python("0001_fill", "raise ValueError('2 items have no price')")
    everyone_can.post(APPLY, {**form_of(read(everyone_can)), "reason": ""})
    text = read(everyone_can)
    assert "The last run failed" in text
    step = text[text.index("testapp.0001_fill</h3>") :]
    assert "Last attempt: ValueError:" in step
    assert "2 items have no price" in step
    assert f'action="{APPLY}"' in text


def test_the_last_run_is_not_shown_to_those_who_may_not_read_it(
    sign_in: SignIn, history: History, a_run: Callable[..., RunRecord]
) -> None:
    """A user who may only plan gets the plan alone."""
    history.table("0001_initial", "shelf")
    a_run(reason="Release 41")
    user = sign_in(Scope.PLAN)
    text = read(user)
    assert ("Release 41" in text) == may_read(user)


def may_read(client: Client) -> bool:
    """Return whether the user may see the list of runs."""
    return client.get(reverse("migration_route:history")).status_code == 200


def test_a_step_that_is_safe_on_no_side_of_a_deploy_says_so(
    everyone_can: Client, inline: History, apply_everything: Callable[[], None]
) -> None:
    """Instead of the side on which it would be carried out."""
    inline.write("0001_a", create_model("Shelf", "('name', models.TextField())"))
    apply_everything()
    inline.write("0002_b", "migrations.RenameField('Shelf', 'name', 'title')")
    text = read(everyone_can)
    step = text[text.index("testapp.0002_b</h3>") :]
    assert "no safe side of the deploy</span>" in step
    assert ">before the deploy</span>" not in step


def test_the_plan_needs_no_ledger(
    everyone_can: Client, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger cannot be read, the page lacks only what comes from it."""
    history.table("0001_initial", "shelf")

    def unavailable(*args: object, **words: object) -> None:
        raise DatabaseUnavailable("The ledger is away.")

    monkeypatch.setattr(queries, "last_runs", unavailable)
    text = read(everyone_can)
    assert "testapp.0001_initial</h3>" in text
    assert "Apply 1 migration to default</button>" in text
