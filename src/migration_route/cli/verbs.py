"""The verbs of both command lines: their arguments, what they print, their exit codes."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from migration_route.cli.backend import Backend, BackendAnswer, PlanArguments
from migration_route.cli.offline import (
    TOKEN_ARGUMENTS,
    create_token,
    read_keys,
    save_file,
    verify_file,
)
from migration_route.cli.parser import (
    DATABASE,
    FINGERPRINT,
    NO_WAIT,
    PHASE,
    PLAN,
    REASON,
    REBUILD_INVALID_INDEXES,
    REQUIRED_REASON,
    RUN,
    TARGETS,
    Connect,
    Options,
    Verb,
    argument,
    declare,
    flag,
    ledger_head,
    start_time,
)
from migration_route.cli.terminal import Terminal
from migration_route.core.enums import (
    CopyKind,
    Direction,
    EventKind,
    Mode,
    Phase,
    Resolution,
    RunState,
)
from migration_route.core.errors import InvalidRequest
from migration_route.core.signatures import Key
from migration_route.ledger.evidence import file_name
from migration_route.presentation import schemas
from migration_route.presentation.text import runs as text
from migration_route.presentation.text.evidence import head_lines, verification_line
from migration_route.presentation.text.exit_codes import (
    DONE,
    FAILED,
    NOT_ALLOWED,
    exit_of_health,
    exit_of_rehearsal,
    exit_of_run,
    exit_of_status,
)
from migration_route.presentation.text.rehearsals import rehearsal_lines, rehearsals_lines

VERBS: dict[str, Verb] = {}
"""The verbs of both command lines, by name."""

verb = partial(declare, VERBS)


def plan_arguments(options: Options) -> PlanArguments:
    phase = options.get("phase")
    return PlanArguments(
        database=options["database"],
        targets=options["targets"],
        mode=Mode(options.get("mode", Mode.APPLY)),
        phase=Phase(phase) if phase else None,
    )


@verb(
    "status",
    "show the pending migrations of every database",
    argument(
        "--check",
        nargs="?",
        choices=("pending", "required"),
        const="pending",
        help="exit with 3 if migrations are pending; with 'required', only if the running "
        "code requires them",
    ),
)
def _status(connect: Connect, terminal: Terminal, options: Options) -> int:
    found = connect().status()
    terminal.tell(found.raw, text.status_lines(found.value))
    return exit_of_status(found.value, options["check"])


@verb(
    "plan",
    "show a plan without executing it",
    *PLAN,
    flag("--sql", "print the SQL of each operation"),
)
def _plan(connect: Connect, terminal: Terminal, options: Options) -> int:
    found = connect().plan(plan_arguments(options))
    terminal.tell(found.raw, text.plan_lines(found.value, has_sql=options["sql"]))
    return DONE


@verb(
    "health",
    "check the health signals for a plan; exit with 5 if a run would pause",
    TARGETS,
    DATABASE,
)
def _health(connect: Connect, terminal: Terminal, options: Options) -> int:
    found = connect().health(plan_arguments(options))
    terminal.tell(found.raw, text.health_lines(found.value))
    return exit_of_health(found.value)


@verb(
    "runs",
    "list the latest runs",
    argument("--database", metavar="ALIAS", help="list only this database"),
    argument(
        "--limit", type=int, default=20, help="list at most 1 to 200 (default: %(default)s)"
    ),
)
def _runs(connect: Connect, terminal: Terminal, options: Options) -> int:
    if not 0 < options["limit"] <= 200:
        raise InvalidRequest("--limit must be between 1 and 200.")
    found = connect().runs(database=options["database"], limit=options["limit"])
    terminal.tell(found.raw, text.runs_lines(found.value))
    return DONE


@verb("show", "show one run", RUN)
def _show(connect: Connect, terminal: Terminal, options: Options) -> int:
    _print_run(terminal, connect().run(options["run"]))
    return DONE


_FOLLOWING = 120.0  # seconds of retries of a verb that follows something


@verb("watch", "follow a run to its end", RUN, patience=_FOLLOWING)
def _watch(connect: Connect, terminal: Terminal, options: Options) -> int:
    backend = connect()
    return _follow(backend, terminal, backend.run(options["run"]).value)


def _print_run(terminal: Terminal, found: BackendAnswer[schemas.RunAnswer]) -> int:
    """Print a run; return the exit code of its state."""
    terminal.tell(found.raw, text.run_lines(found.value))
    return exit_of_run(found.value)


_PAGE = 500  # events of one answer
_SHORTEST_WAIT = 0.3
_LONGEST_WAIT = 3.0


def _follow(backend: Backend, terminal: Terminal, run: schemas.RunAnswer) -> int:
    """Show events until the run has ended, less often while nothing is new; return its exit
    code. Ctrl-C stops this, not the run."""
    with terminal.resumable("The run continues. Watch it with", f"watch {run.id}"):
        _tell_events(backend, terminal, run)
        found = backend.run(run.id)
    return _print_run(terminal, found)


def _tell_events(backend: Backend, terminal: Terminal, run: schemas.RunAnswer) -> None:
    after, wait, pause = 0, 0.0, _SHORTEST_WAIT
    with terminal.following(len(run.steps)) as progress:
        progress.tell_remaining(text.remaining_line(run))
        while True:
            page = backend.events(run.id, after=after, limit=_PAGE, wait=wait)
            after = page.last
            for event in page.events:
                progress.tell(event)
            if not terminal.is_json:
                progress.tell_waiting(backend.waiting_line(run.id))
            if page.ended:
                return
            finished = any(event.kind == EventKind.STEP_FINISHED for event in page.events)
            if finished and run.expected_ms is not None and not terminal.is_json:
                progress.tell_remaining(text.remaining_line(backend.run(run.id).value))
            pause = _SHORTEST_WAIT if page.events else min(pause * 1.5, _LONGEST_WAIT)
            wait = 0.0 if len(page.events) == _PAGE else pause


_SHORTEST_REHEARSAL_WAIT = 0.5
_LONGEST_REHEARSAL_WAIT = 5.0
MOST_REHEARSALS = 200


@verb(
    "rehearse",
    "rehearse a plan on a copy, or in place with a rollback, and print a report",
    TARGETS,
    DATABASE,
    PHASE,
    FINGERPRINT,
    REASON,
    NO_WAIT,
    flag("--data", "copy the rows too, not only the schema"),
    flag("--round-trip", "reverse every step afterwards"),
    flag(
        "--in-place",
        "use the database itself, in one transaction that is rolled back; its locks are "
        "real and last until the end",
    ),
    patience=_FOLLOWING,
)
def _rehearse(connect: Connect, terminal: Terminal, options: Options) -> int:
    backend, wanted = connect(), plan_arguments(options)
    found = backend.create_rehearsal(
        schemas.CreateRehearsal(
            database=wanted.database,
            targets=wanted.targets,
            fingerprint=options["fingerprint"] or backend.fingerprint(wanted),
            phase=wanted.phase,
            kind=CopyKind.DATA if options["data"] else CopyKind.SCHEMA,
            round_trip=options["round_trip"],
            in_place=options["in_place"],
            reason=options["reason"],
        )
    )
    command = f"rehearsals {found.value.id}"
    wait = _SHORTEST_REHEARSAL_WAIT
    with terminal.resumable("The rehearsal continues. Show it with", command):
        while not found.value.ended and not options["no_wait"]:
            found = backend.rehearsal(found.value.id, wait=wait)
            wait = min(wait * 1.5, _LONGEST_REHEARSAL_WAIT)
    terminal.tell(found.raw, rehearsal_lines(found.value))
    return exit_of_rehearsal(found.value)


@verb(
    "rehearsals",
    "list the latest rehearsals, or show the report of one",
    argument("rehearsal", nargs="?", help="ID of a rehearsal"),
)
def _rehearsals(connect: Connect, terminal: Terminal, options: Options) -> int:
    if options["rehearsal"]:
        one = connect().rehearsal(options["rehearsal"])
        terminal.tell(one.raw, rehearsal_lines(one.value))
    else:
        found = connect().rehearsals(limit=MOST_REHEARSALS)
        terminal.tell(found.raw, rehearsals_lines(found.value))
    return DONE


@verb(
    "apply",
    "apply a plan",
    *PLAN,
    FINGERPRINT,
    REASON,
    NO_WAIT,
    REBUILD_INVALID_INDEXES,
    argument(
        "--at",
        type=start_time,
        metavar="TIME",
        help="start no earlier, such as 2026-12-01T02:00:00+01:00",
    ),
    flag(
        "--no-wait-for-window",
        "refuse a run that cannot start now, instead of letting it wait",
    ),
    flag("--yes", "do not ask for confirmation"),
    patience=_FOLLOWING,
)
def _apply(connect: Connect, terminal: Terminal, options: Options) -> int:
    backend, wanted = connect(), plan_arguments(options)
    # The SQL and the findings are for the one who confirms; `plan` shows them as well.
    is_asked = not options["yes"]
    has_details = is_asked and not terminal.is_json
    plan = backend.plan_to_apply(wanted, has_details=has_details)
    if not terminal.is_json:
        terminal.tell(plan.raw, text.plan_lines(plan.value, has_details=has_details))
    must_confirm = plan.value.direction != Direction.NONE and is_asked
    if must_confirm and not _is_confirmed(plan.value):
        terminal.write_error("Nothing was applied.")
        return NOT_ALLOWED
    run = backend.create_run(
        schemas.CreateRun(
            database=wanted.database,
            targets=wanted.targets,
            fingerprint=options["fingerprint"] or plan.value.fingerprint,
            reason=options["reason"],
            fake=wanted.mode is Mode.FAKE,
            fake_initial=wanted.mode is Mode.FAKE_INITIAL,
            rebuild_invalid_indexes=options["rebuild_invalid_indexes"],
            phase=wanted.phase,
            at=options["at"],
            wait_for_window=not options["no_wait_for_window"],
        )
    )
    if run.value.state == RunState.AWAITING_APPROVAL:
        return _print_run(terminal, run)
    if options["no_wait"]:
        _print_run(terminal, run)
        return DONE
    return _follow(backend, terminal, run.value)


def _is_confirmed(plan: schemas.PlanAnswer) -> bool:
    """Ask the user at the terminal. Raises `InvalidRequest` if there is no terminal."""
    if not sys.stdin.isatty():
        raise InvalidRequest(
            "The plan cannot be confirmed: standard input is not a terminal.",
            hint="Use --yes to apply without confirmation.",
        )
    sys.stderr.write(question(needs_approval=plan.approval is not None))
    sys.stderr.flush()
    return is_yes(sys.stdin.readline())


def question(*, needs_approval: bool) -> str:
    """Return the confirmation prompt."""
    prompt = "Request approval for this plan?" if needs_approval else "Apply this plan?"
    return f"{prompt} [y/N] "


def is_yes(answer: str) -> bool:
    return answer.strip().lower() in {"y", "yes"}


@verb(
    "resolve",
    "resolve a partially applied run and unlock its database",
    RUN,
    REQUIRED_REASON,
    argument(
        "--how",
        default=Resolution.AS_IS.value,
        choices=[how.value for how in Resolution],
        help="how to resolve the step that stopped (default: %(default)s)",
    ),
    patience=_FOLLOWING,
)
def _resolve(connect: Connect, terminal: Terminal, options: Options) -> int:
    backend, how = connect(), Resolution(options["how"])
    found = backend.control_run(
        options["run"], "resolve", {"reason": options["reason"], "how": how}
    )
    is_continued = how is Resolution.CONTINUE
    if is_continued and found.value.state != RunState.AWAITING_APPROVAL:
        return _follow(backend, terminal, found.value)
    code = _print_run(terminal, found)
    return code if is_continued else DONE


@verb(
    "reject", "reject a run that awaits approval", RUN, REQUIRED_REASON, is_for_users=True
)
@verb("approve", "approve a run that awaits approval", RUN, REASON, is_for_users=True)
@verb(
    "resume",
    "resume a paused run, or check again whether a waiting run can start",
    RUN,
    REASON,
    flag("--force", "ignore health signals, the scheduled time, windows and freezes"),
)
@verb("pause", "pause a run before its next step", RUN, REASON)
@verb(
    "cancel",
    "cancel a run, even in the middle of a statement",
    RUN,
    REASON,
    flag("--force", "kill its processes and terminate its database sessions"),
)
def _control(connect: Connect, terminal: Terminal, options: Options) -> int:
    wanted = {"reason": options["reason"]}
    if options.get("force"):
        wanted["force"] = True
    found = connect().control_run(options["run"], options["verb"], wanted)
    _print_run(terminal, found)
    return DONE


@verb(
    "terminate-blockers",
    "terminate the sessions that block a run",
    RUN,
    REQUIRED_REASON,
    is_for_users=True,
)
def _terminate_blockers(connect: Connect, terminal: Terminal, options: Options) -> int:
    """Terminate the sessions that block a run; return 1 if one was not terminated."""
    found = connect().terminate_blockers(options["run"], reason=options["reason"])
    terminal.tell(found.raw, text.terminated_blockers_lines(found.value))
    return FAILED if found.value.not_terminated else DONE


@verb(
    "ledger verify",
    "verify the integrity of the ledger",
    argument(
        "--file",
        type=Path,
        help="verify an export, or the evidence of a run, instead of the ledger",
    ),
    argument(
        "--head",
        type=ledger_head,
        metavar="NUMBER:HASH",
        help="also verify that this entry still exists, as printed at the end of a run",
    ),
    argument(
        "--key-file",
        type=Path,
        metavar="FILE",
        help="check the signature of evidence with the SECRET_KEY in this file; earlier "
        "keys follow on further lines",
    ),
)
def _verify(connect: Connect, terminal: Terminal, options: Options) -> int:
    return verify_ledger(connect, terminal, options)


def verify_ledger(
    connect: Connect, terminal: Terminal, options: Options, *, keys: Sequence[Key] = ()
) -> int:
    """Verify the ledger, or a file without contacting a project; return the exit code.

    `keys` check the signature of a file unless `--key-file` names others.
    """
    if options["key_file"] and not options["file"]:
        raise InvalidRequest("--key-file needs --file with the evidence of a run.")
    if options["file"]:
        keys = read_keys(options["key_file"]) if options["key_file"] else keys
        return verify_file(terminal, options["file"], head=options["head"], keys=keys)
    found = connect().verify(options["head"])
    lines = [verification_line(found.value), *head_lines(found.value)]
    terminal.tell(found.raw, lines)
    return DONE if found.value.intact else FAILED


@verb(
    "ledger export",
    "export the whole ledger as JSON Lines",
    argument(
        "--output", type=Path, metavar="FILE", help="write to this file instead of printing"
    ),
    patience=30.0,
)
def _export(connect: Connect, terminal: Terminal, options: Options) -> int:
    """Write an export to `--output`, completely or not at all, or print it."""
    pieces = connect().export()
    if options["output"]:
        save_file(options["output"], pieces)
        return DONE
    for piece in pieces:
        terminal.write(piece.decode().rstrip("\n"))
    return DONE


@verb(
    "ledger bundle",
    "save the evidence of a run as one signed file",
    RUN,
    argument(
        "--file",
        type=Path,
        help="write to this file (default: evidence-RUN.zip in the current directory)",
    ),
    patience=30.0,
)
def _bundle(connect: Connect, terminal: Terminal, options: Options) -> int:
    run = options["run"]
    content = connect().evidence(run)
    path = options["file"] or Path(file_name(run))
    save_file(path, [content])
    answer = schemas.SavedEvidenceAnswer(run=run, file=str(path), bytes=len(content))
    line = f"The evidence of run {run} is saved in {path}."
    terminal.tell(schemas.to_json(answer), [line])
    return DONE


@verb(
    "token new",
    "create a token and print its secret once",
    *TOKEN_ARGUMENTS,
    is_offline=True,
)
def _new_token(connect: Connect, terminal: Terminal, options: Options) -> int:
    del connect
    return create_token(terminal, options)
