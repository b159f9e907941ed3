"""Tests of the output and exit codes of `manage.py migration_route`."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from dataclasses import dataclass
from io import StringIO

import msgspec
import pytest
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.recorder import MigrationRecorder

from migration_route.conf import read_settings
from migration_route.conf.command import command_line
from migration_route.core import subprocesses
from migration_route.core.credentials import digest_of
from migration_route.core.enums import ControlRequest, RunState
from migration_route.ledger import runs
from migration_route.ledger.queries import list_entries, list_runs
from migration_route.management.commands.migration_route import Command
from migration_route.models import Entry, Run
from migration_route.presentation import schemas
from tests.factories import a_new_run, tables

pytestmark = pytest.mark.usefixtures("database")


@dataclass(frozen=True)
class Said:
    """The output of the command, and its exit code."""

    code: int
    out: str
    error: str

    def read(self, kind: type):
        """Decode the printed JSON as the wire type."""
        return msgspec.json.decode(self.out, type=kind)


def say(*arguments: str) -> Said:
    """Run the command in this process, as typed."""
    out, err = StringIO(), StringIO()
    code, error = 0, ""
    try:
        call_command("migration_route", *arguments, stdout=out, stderr=err)
    except CommandError as failed:
        code, error = failed.returncode, str(failed)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return Said(code, out.getvalue(), error or err.getvalue())


@pytest.fixture
def _inline(history, project, settings):
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "LAUNCHER": "inline"}
    project()


@pytest.fixture
def _nobody(monkeypatch):
    monkeypatch.setattr("sys.stdin", StringIO())


def a_run(state: RunState):
    """Return the id of a run in this state."""
    run, _ = runs.create_run(a_new_run())
    if state is not RunState.QUEUED:
        runs.move(run.id, to=state, expected={RunState.QUEUED})
    return run.id


def test_a_verb_loads_only_its_own_services(project):
    """The process of a run starts without those of the other verbs."""
    code = (
        "import sys\n"
        "from django.core.management import ManagementUtility\n"
        "words = ['manage.py', 'migration_route', *sys.argv[1:]]\n"
        "try: ManagementUtility(words).execute()\n"
        "finally: print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "0" * 32],
        env=subprocesses.environment(),
        capture_output=True,
        check=False,
        text=True,
    )
    loaded = {
        name for name in done.stderr.split() if name.startswith("migration_route.services.")
    }
    assert done.returncode == 2
    assert "migration_route.services.execute" in loaded
    others = {"apply", "permits", "queue_worker", "rehearsals"}
    assert not {f"migration_route.services.{name}" for name in others} & loaded


@pytest.mark.parametrize("words", [["nonsense"], ["--json"], []])
def test_what_is_no_verb_is_told_all_verbs(words, capsys):
    """As if the families were not loaded separately."""
    with pytest.raises(SystemExit) as ended:
        Command().run_from_argv(["manage.py", "migration_route", *words])
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert words != ["nonsense"] or all(verb in said for verb in ("apply", "run", "worker"))


def test_status_says_what_is_pending(history):
    """As text and as JSON; with `--check` as an exit code."""
    assert say("status").code == 0
    history.table("0001_a", "made_a")
    said = say("status")
    assert (said.code, "1 pending" in said.out, "testapp.0001_a" in said.out) == (
        0,
        True,
        True,
    )
    assert say("status", "--check").code == 3
    found = say("status", "--json").read(schemas.StatusAnswer)
    assert found.databases[0].pending_migrations == ["testapp.0001_a"]


def test_nothing_pending_is_zero_with_check():
    """A pipeline continues."""
    assert say("status", "--check").code == 0


def test_a_plan_is_shown(history):
    """Steps, operations, findings and the fingerprint."""
    history.write("0001_a", "migrations.RunPython(migrations.RunPython.noop)")
    said = say("plan", "testapp")
    assert said.code == 0
    assert "testapp.0001_a" in said.out
    assert "runs code" in said.out
    found = say("plan", "testapp", "--json").read(schemas.PlanAnswer)
    assert [step.name for step in found.steps] == ["0001_a"]
    assert f"fingerprint {found.fingerprint}" in said.out


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["plan", "nowhere"], 2, "unknown_target"),
        (["plan", "--database", "nowhere"], 2, "unknown_database"),
        (["show", "0" * 32], 2, "unknown_run"),
        (["show", "x"], 2, "invalid_request"),
        (["runs", "--limit", "0"], 2, "invalid_request"),
        (["cancel", "0" * 32], 2, "unknown_run"),
        (["pause", "0" * 32], 2, "unknown_run"),
        (["resume", "0" * 32], 2, "unknown_run"),
        (["resolve", "0" * 32, "--reason", "x"], 2, "unknown_run"),
    ],
)
def test_an_error_has_its_exit_code_and_its_problem(arguments, code, problem):
    """As text, or as a problem with `--json`."""
    said = say(*arguments)
    assert (said.code, bool(said.error)) == (code, True)
    machine = say(*arguments, "--json")
    assert (machine.code, machine.read(schemas.Problem).code) == (code, problem)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["plan", "--mode", "pretend"],
        ["resolve", "0" * 32],
        ["token", "new", "ci"],
        ["token", "new", "ci", "--scope", "approve"],
    ],
)
def test_wrong_usage_is_told(arguments):
    """By the parser, before anything is done."""
    with pytest.raises((CommandError, SystemExit)):
        call_command("migration_route", *arguments, stdout=StringIO(), stderr=StringIO())


@pytest.mark.usefixtures("_inline", "_nobody")
def test_nothing_is_applied_where_nobody_can_answer(history):
    """Without a terminal it needs `--yes`."""
    history.table("0001_a", "made_a")
    said = say("apply", "testapp")
    assert said.code == 2
    assert "--yes" in said.error
    assert "testapp.0001_a" in said.out  # the plan was shown
    assert say("apply", "testapp", "--json").read(schemas.Problem).code == "invalid_request"
    assert list_runs(database=None, before=None, limit=5) == []


@pytest.mark.usefixtures("_inline")
@pytest.mark.parametrize(("answer", "code"), [("n", 4), ("", 4), (" YES ", 0)])
def test_who_is_asked_decides(history, monkeypatch, answer, code):
    """Anything but a yes is a no."""
    history.python("0001_a", "print('hello from a migration')")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin.readline", lambda: answer, raising=False)
    said = say("apply", "testapp")
    assert said.code == code
    assert ("hello from a migration" in said.out) is (code == 0)
    assert ("succeeded" in said.out) is (code == 0)


@pytest.mark.usefixtures("_inline", "_nobody")
def test_a_run_is_applied_and_shown_as_json(history):
    """With `--yes --json` only the run is printed."""
    history.table("0001_a", "made_a")
    said = say("apply", "testapp", "--yes", "--json", "--reason", "a deploy")
    assert said.code == 0
    run = said.read(schemas.RunAnswer)
    assert (run.state, run.reason, run.requested_by.kind) == (
        "succeeded",
        "a deploy",
        "command",
    )
    assert "made_a" in tables()
    assert (
        say("apply", "testapp", "--yes", "--json").read(schemas.RunAnswer).state == "noop"
    )
    assert say("show", run.id, "--json").read(schemas.RunAnswer) == run
    assert say("watch", run.id).code == 0
    assert len(say("runs", "--json").read(schemas.RunsAnswer).runs) == 2


@pytest.mark.usefixtures("_inline", "_nobody")
def test_a_failure_is_one_and_another_plan_is_five(history):
    """The error is reported with the step."""
    history.python("0001_a", "raise LookupError('no such thing')")
    said = say("apply", "testapp", "--yes")
    assert said.code == 1
    assert "no such thing" in said.out
    assert say("apply", "testapp", "--yes", "--fingerprint", "x-y-z").code == 5
    assert say("apply", "testapp", "--yes", "--fingerprint", "x-y").code == 2


@pytest.mark.usefixtures("_inline", "_nobody")
def test_a_run_expects_what_the_same_step_took_before(history):
    """In the plan, in the run, and where it is watched."""
    history.table("0001_a", "made_a")
    words = ("apply", "testapp", "--yes", "--json")
    first = say(*words).read(schemas.RunAnswer)
    assert (first.expected_ms, first.expected_unknown) == (None, 1)
    took = first.steps[0].duration_ms
    MigrationRecorder(connections["default"]).record_unapplied("testapp", "0001_a")
    with connections["default"].cursor() as cursor:
        cursor.execute("DROP TABLE made_a")
    plan = say("plan", "testapp", "--json").read(schemas.PlanAnswer)
    assert (plan.expected_ms, plan.expected_unknown) == (took, 0)
    assert f"expected {took} ms" in say("plan", "testapp").out
    second = say(*words).read(schemas.RunAnswer)
    assert (second.expected_ms, second.expected_unknown) == (took, 0)
    assert second.remaining_ms is None
    assert f"expected {took} ms" in say("watch", second.id).out


@pytest.mark.parametrize("reason", ["bytes \udcff", "x" * 2001])
def test_a_reason_that_cannot_be_stored_is_refused(reason):
    """Python passes invalid UTF-8 on as surrogates, which no database stores."""
    run = a_run(RunState.QUEUED)
    said = say("cancel", run, "--reason", reason)
    assert said.code != 0
    assert "argument --reason" in said.error
    assert Run.objects.get(pk=run).state == RunState.QUEUED


def test_an_active_run_is_five():
    """The request is valid, but not possible now."""
    a_run(RunState.QUEUED)
    assert say("apply", "--yes").code == 5


def test_an_unresolved_run_is_five_and_watching_it_is_seven():
    """A user must resolve it."""
    run = a_run(RunState.PARTIAL)
    assert say("apply", "--yes").code == 5
    assert say("watch", run).code == 7
    assert say("resolve", run, "--reason", "mended by hand").code == 0
    assert "resolved" in say("show", run).out


def test_a_guard_that_needs_approval_is_six(settings):
    """Another user must approve."""
    settings.MIGRATION_ROUTE = {**settings.MIGRATION_ROUTE, "APPROVALS": {"required": 1}}
    asked = say("apply", "testapp.zero", "--mode", "fake", "--yes")
    assert asked.code == 6
    assert "needs 1 approval by another user with the permission approve" in asked.out
    (run,) = list_runs(database=None, before=None, limit=5)
    assert run.state is RunState.AWAITING_APPROVAL
    assert say("approve", run.id).code == 4  # by the shell that requested it
    assert say("run", run.id).code == 6
    assert say("reject", run.id, "--reason", "not today").code == 0
    assert "rejected by" in say("show", run.id).out
    assert say("watch", run.id).code == 4


def test_a_database_that_is_gone_is_eight():
    """The pending migrations are unknown."""
    usual = connections["other"]
    gone = usual.copy()
    nowhere = {"PORT": "1"} if usual.vendor != "sqlite" else {"NAME": "/nonexistent/x.db"}
    gone.settings_dict = {**gone.settings_dict, **nowhere}
    connections["other"] = gone
    try:
        assert say("status", "--check").code == 8
        assert "unreachable" in say("status").out
        assert say("plan", "--database", "other").code == 8
    finally:
        connections["other"] = usual


def test_a_queued_run_is_cancelled():
    """Once."""
    run = a_run(RunState.QUEUED)
    assert say("cancel", run, "--reason", "enough").code == 0
    assert say("cancel", run).code == 5
    assert say("watch", run).code == 1
    assert list_entries(before=None, limit=9)[1].actor_kind == "command"


def test_a_run_is_held_resumed_and_stopped_by_force():
    """Each is reported and recorded on the ledger, with the account of the shell."""
    run = a_run(RunState.RUNNING)
    assert (
        f"requested: {ControlRequest.PAUSE}"
        in say("pause", run, "--reason", "the sale").out
    )
    assert "requested:" not in say("resume", run).out
    assert say("resume", run).code == 5
    said = say("cancel", run, "--force", "--json").read(schemas.RunAnswer)
    assert (said.state, said.ended) == ("cancelled", True)
    actions = [entry.action for entry in list_entries(before=None, limit=9)]
    assert {"pause_requested", "resumed", "force_requested"} <= set(actions)


def test_a_run_that_is_no_longer_watched_continues(monkeypatch):
    """Ctrl-C ends the command only, which prints how to watch the run again."""

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    run = a_run(RunState.QUEUED)
    monkeypatch.setattr("migration_route.services.runs.wait", interrupt)
    said = say("watch", run)
    assert said.code == 130
    assert f"Watch it with: manage.py migration_route watch {run}" in said.error
    assert Run.objects.get(pk=run).state == RunState.QUEUED


def test_the_ledger_is_verified():
    """0 while it is intact, 1 otherwise."""
    a_run(RunState.FAILED)
    head = f"2:{Entry.objects.get(sequence=2).digest}"
    assert say("ledger", "verify").out.splitlines() == [
        "The ledger is intact: 2 entries.",
        f"Ledger head: {head}",
    ]
    assert say("ledger", "verify", "--json").read(schemas.VerificationAnswer).intact
    Entry.objects.filter(sequence=1).update(actor_name="nobody")
    said = say("ledger", "verify")
    assert (said.code, "Line 1" in said.out) == (1, True)
    assert say("ledger", "verify", "--json").code == 1


def test_the_ledger_is_exported_and_the_file_verified(tmp_path):
    """Printed or written to a file; the file alone is enough to verify it."""
    a_run(RunState.FAILED)
    assert len(say("ledger", "export").out.splitlines()) == 2
    file = tmp_path / "ledger.jsonl"
    assert say("ledger", "export", "--output", str(file)).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.jsonl"]
    said = say("ledger", "verify", "--file", str(file))
    last = Entry.objects.get(sequence=2).digest
    assert (said.code, f"Digest of the last line: {last}" in said.out) == (0, True)
    file.write_text(file.read_text().replace("failed", "passed"))
    said = say("ledger", "verify", "--file", str(file), "--json")
    assert (said.code, said.read(schemas.VerificationAnswer).broken) == (1, 2)
    assert say("ledger", "verify", "--file", str(tmp_path / "none")).code == 2
    assert say("ledger", "export", "--output", str(tmp_path / "no" / "file")).code == 2


def test_the_evidence_of_a_run_is_saved_and_verified(tmp_path, monkeypatch, settings):
    """With the keys of the settings, or with those of a file."""
    run = a_run(RunState.FAILED)
    monkeypatch.chdir(tmp_path)
    assert say("ledger", "bundle", run).out == (
        f"The evidence of run {run} is saved in evidence-{run}.zip.\n"
    )
    file = tmp_path / "saved.zip"
    said = say("ledger", "bundle", run, "--file", str(file), "--json")
    saved = said.read(schemas.SavedEvidenceAnswer)
    assert (saved.file, saved.bytes) == (str(file), file.stat().st_size)
    said = say("ledger", "verify", "--file", str(file))
    first, counts, links, _, head, signature = said.out.splitlines()
    assert (said.code, first) == (0, f"The evidence of run {run} (failed) is intact.")
    assert counts == "  2 entries, 0 events"
    assert links == "  2 of 2 links of the chain checked"
    assert head.endswith(f"2:{Entry.objects.get(sequence=2).digest}")
    assert signature == "The signature is valid."
    settings.SECRET_KEY, old = "a new key", settings.SECRET_KEY
    said = say("ledger", "verify", "--file", str(file))
    assert (said.code, "signed with another SECRET_KEY" in said.out) == (1, True)
    settings.SECRET_KEY_FALLBACKS = [old]
    assert say("ledger", "verify", "--file", str(file)).code == 0
    keys = tmp_path / "keys"
    keys.write_text("another\n")
    words = ["ledger", "verify", "--file", str(file), "--key-file", str(keys)]
    found = say(*words, "--json").read(schemas.EvidenceAnswer)
    assert (found.intact, found.signature) == (False, "invalid")
    keys.write_text(f"another\n{old}\n")
    assert say(*words).code == 0


def test_changed_evidence_is_told_with_what_was_changed(tmp_path):
    run, file = a_run(RunState.FAILED), tmp_path / "evidence.zip"
    assert say("ledger", "bundle", run, "--file", str(file)).code == 0
    content = file.read_bytes()
    file.write_bytes(content.replace(b"a test", b"a best"))
    said = say("ledger", "verify", "--file", str(file))
    assert (said.code, "run.json was changed" in said.out) == (1, True)
    file.write_bytes(content[:-1])
    assert say("ledger", "verify", "--file", str(file), "--json").code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["evidence.zip"]


def test_what_cannot_be_verified_is_refused(tmp_path, monkeypatch):
    """The error says what to do."""
    run, file = a_run(RunState.FAILED), tmp_path / "evidence.zip"
    assert say("ledger", "bundle", run, "--file", str(file)).code == 0
    head = f"2:{Entry.objects.get(sequence=2).digest}"
    words = ["ledger", "verify", "--file", str(file)]
    said = say(*words, "--head", head)
    assert (said.code, "against an export" in said.error) == (2, True)
    said = say("ledger", "verify", "--key-file", str(file))
    assert (said.code, "--key-file needs --file" in said.error) == (2, True)
    assert say(*words, "--key-file", str(tmp_path / "none")).code == 2
    keys = tmp_path / "keys"
    for content, problem in ((b"\n", "contains no key"), (b"\xff", "not UTF-8")):
        keys.write_bytes(content)
        said = say(*words, "--key-file", str(keys))
        assert (said.code, problem in said.error) == (2, True)
    monkeypatch.setattr("migration_route.cli.offline.LARGEST_BUNDLE", 100)
    said = say(*words)
    assert (said.code, "more than 100 bytes" in said.error) == (2, True)
    assert say("ledger", "bundle", "f" * 32, "--file", str(file)).code == 2


def test_a_ledger_that_was_cut_off_fails_with_its_head(tmp_path):
    """Exit code 1, for the ledger and for an export; without the head, neither shows it."""
    a_run(RunState.FAILED)
    export = tmp_path / "ledger.jsonl"
    head = f"2:{Entry.objects.get(sequence=2).digest}"
    assert say("ledger", "verify", "--head", head).code == 0
    Entry.objects.filter(sequence=2).delete()
    assert say("ledger", "export", "--output", str(export)).code == 0
    for words in (["ledger", "verify"], ["ledger", "verify", "--file", str(export)]):
        assert say(*words).code == 0
        said = say(*words, "--head", head)
        assert said.code == 1
        assert said.out.startswith(
            "The ledger is not intact. Entry 2 is missing: the ledger ends at entry 1"
        )
    with pytest.raises(CommandError, match="NUMBER:HASH"):
        call_command("migration_route", "ledger", "verify", "--head", "2")


@pytest.mark.usefixtures("_inline", "_nobody")
def test_the_head_of_the_ledger_is_printed_at_the_end_of_a_run(history):
    """By the command that applies, and by those that show the run."""
    history.table("0001_a", "made_a")
    said = say("apply", "testapp", "--yes")
    last = Entry.objects.order_by("-sequence")[0]
    line = f"Ledger head: {last.sequence}:{last.digest}"
    assert said.out.splitlines()[-1] == line
    assert said.out.count("Ledger head") == 1
    run = last.run
    assert say("show", run).out.splitlines()[-1] == line
    assert f"{last.sequence}:{last.digest}" == (
        say("show", run, "--json").read(schemas.RunAnswer).ledger_head
    )
    assert "Ledger head" not in say("show", a_run(RunState.QUEUED)).out


def test_a_new_token_is_printed_once_with_its_entry():
    """The entry accepts exactly this secret."""
    said = say("token", "new", "ci", "--scope", "apply", "--scope", "read", "--json")
    made = json.loads(said.out)
    found = read_settings({"TOKENS": [made["entry"]]})
    assert found.problems == ()
    assert found.tokens[0].sha256 == (digest_of(made["secret"]),)
    again = say("token", "new", "ci", "--scope", "read", "--json")
    assert json.loads(again.out)["secret"] != made["secret"]


def test_a_token_that_could_not_be_used_is_refused():
    """What is printed can be used: an invalid date is reported here."""
    said = say("token", "new", "ci", "--scope", "read", "--expires", "tomorrow")
    assert said.code == 2
    assert say("token", "new", "", "--scope", "read").code == 2


def test_the_text_of_a_new_token_can_be_pasted():
    """It is Python, as the settings are."""
    said = say(
        "token",
        "new",
        "ci",
        "--scope",
        "read",
        "--token-database",
        "default",
        "--expires",
        "2030-01-01",
    )
    (entry,) = (line for line in said.out.splitlines() if line.startswith("    {"))
    entry = entry.strip().rstrip(",")
    found = read_settings({"TOKENS": [ast.literal_eval(entry)]})
    assert found.problems == ()
    assert found.tokens[0].databases == frozenset({"default"})


def test_the_exit_code_is_that_of_the_process(history):
    """An unknown or ended run is never executed."""
    command = [*command_line(()), "run"]
    run = a_run(RunState.CANCELLED)
    for argument, code in (("0" * 32, 2), (run, 5)):
        done = subprocess.run(
            [*command, argument],
            env=subprocesses.environment(),
            capture_output=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
