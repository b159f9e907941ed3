"""The door on a host: `manage.py migration_route VERB`."""

from __future__ import annotations

import sys
from argparse import SUPPRESS
from collections.abc import Iterable
from functools import partial
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError, CommandParser

from migration_route import wire
from migration_route.access.actor import on_this_host
from migration_route.access.tokens import digest_of, new_secret
from migration_route.conf import read_settings
from migration_route.errors import InvalidRequest, RouteError
from migration_route.ledger.records import RunRecord
from migration_route.management import asking
from migration_route.management.arguments import (
    details_of,
    plan_request,
    target_arguments,
    verb,
)
from migration_route.management.ending import end_blockers
from migration_route.management.rehearsing import add_verbs, told_plan
from migration_route.operations import apply as applying
from migration_route.operations import (
    carry,
    ledger,
    plan,
    resolve,
    runs,
    status,
)
from migration_route.planning.plan import Details
from migration_route.reporting import serialize, text
from migration_route.vocabulary import (
    PEOPLE_ONLY,
    Direction,
    Resolution,
    RunState,
    Scope,
)

_PENDING = 3
_EVERYTHING = Details(budget=600.0)
_LOOK = 0.3  # seconds between two looks at what has happened
_EXIT_CODES = {
    RunState.SUCCEEDED: 0,
    RunState.NOOP: 0,
    RunState.STALE: 5,
    RunState.PARTIAL: 7,
    RunState.LOST: 7,
}


class Command(BaseCommand):
    """Parses a verb, calls its operation and renders what comes back."""

    help = "Plans, applies and audits migrations on the guarded route."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs."""
        verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        self._add_reading(verbs)
        self._add_changing(verbs)
        add_verbs(verbs, self._tell)
        nested = verbs.add_parser("ledger", help="the ledger").add_subparsers(
            dest="ledger_verb", required=True
        )
        verb(nested, "verify", "is the ledger as it was written?", self._ledger_verify)
        nested = verbs.add_parser("token", help="tokens for machines").add_subparsers(
            dest="token_verb", required=True
        )
        new = verb(nested, "new", "make a token: prints its secret once", self._token_new)
        new.add_argument("name")
        scopes = [scope.value for scope in Scope if scope not in PEOPLE_ONLY]
        new.add_argument("--scope", action="append", choices=scopes, required=True)
        new.add_argument("--token-database", action="append", metavar="ALIAS")
        new.add_argument("--expires", metavar="YYYY-MM-DD")

    def _add_reading(self, verbs: Any) -> None:
        found = verb(verbs, "status", "what is pending, everywhere", self._status)
        found.add_argument(
            "--check", action="store_true", help="exit with 3 when anything is pending"
        )
        target_arguments(verb(verbs, "plan", "what would happen", self._plan))
        found = verb(verbs, "runs", "the last runs", self._runs)
        found.add_argument("--database", metavar="ALIAS")
        found.add_argument("--limit", type=int, default=20)
        verb(verbs, "show", "one run", self._show).add_argument("run")
        verb(verbs, "watch", "follow a run to its end", self._watch).add_argument("run")
        hidden = verbs.add_parser("plan-value")
        target_arguments(hidden)
        hidden.add_argument("--details", type=details_of, help=SUPPRESS)
        hidden.set_defaults(handler=self._plan_value, json=False)

    def _add_changing(self, verbs: Any) -> None:
        found = verb(verbs, "apply", "carry out a plan", self._apply)
        target_arguments(found)
        found.add_argument("--fingerprint", default="", help="refuse any other plan")
        found.add_argument("--reason", default="")
        found.add_argument(
            "--rebuild-invalid-indexes",
            action="store_true",
            help="drop the invalid indexes that a step makes anew",
        )
        found.add_argument("--yes", action="store_true", help="do not ask")
        found.add_argument(
            "--no-wait", action="store_true", help="return when it has begun"
        )
        for name, text_ in asking.VERBS.items():
            asking.add_arguments(name, verb(verbs, name, text_, self._ask))
        for name, text_, handler in (
            ("resolve", "open a database that a run left in between", self._resolve),
            ("end-blockers", "end who is in its way", partial(end_blockers, self._tell)),
        ):
            found = verb(verbs, name, text_, handler)
            found.add_argument("run")
            found.add_argument("--reason", default="", required=True)
            if name == "resolve":
                found.add_argument(
                    "--how",
                    default=Resolution.AS_IS,
                    choices=[how.value for how in Resolution],
                    help="what becomes of the step that stopped midway",
                )
        run = verb(verbs, "run", "carry out a queued run in this process", self._run)
        run.add_argument("run")

    def handle(self, *args: Any, **options: Any) -> None:
        """Call the verb; an error of the route becomes its message and its exit code."""
        del args
        try:
            code = options["handler"](options)
        except RouteError as error:
            if options["json"]:
                self.stdout.write(serialize.pretty(serialize.problem_answer(error)))
                sys.exit(error.exit_code)
            raise CommandError(str(error), returncode=error.exit_code) from error
        if code:
            sys.exit(code)

    def _tell(
        self, options: dict[str, Any], answer: wire.Answer, lines: Iterable[str]
    ) -> None:
        if options["json"]:
            self.stdout.write(serialize.pretty(answer))
            return
        for line in lines:
            self.stdout.write(line)

    # --- reading ----------------------------------------------------------------------

    def _status(self, options: dict[str, Any]) -> int:
        found = status.status(on_this_host())
        self._tell(options, serialize.status_answer(found), text.status_lines(found))
        if not options["check"]:
            return 0
        problems = [database.problem.exit_code for database in found if database.problem]
        pending = [_PENDING for database in found if database.pending]
        return max([*problems, *pending], default=0)

    def _plan(self, options: dict[str, Any]) -> int:
        found = plan.plan(plan_request(options), on_this_host(), _EVERYTHING)
        self._tell(options, *told_plan(found))
        return 0

    def _plan_value(self, options: dict[str, Any]) -> int:
        found = plan.planned(plan_request(options), options["details"])
        self.stdout.write(msgspec.json.encode(found).decode())
        return 0

    def _runs(self, options: dict[str, Any]) -> int:
        limit = options["limit"]
        if not 0 < limit <= 200:
            raise InvalidRequest("--limit must lie between 1 and 200.")
        found = runs.list_all(on_this_host(), database=options["database"], limit=limit)
        answer = serialize.runs_answer(found, limit=limit)
        self._tell(options, answer, text.runs_lines(found))
        return 0

    def _show(self, options: dict[str, Any]) -> int:
        found = runs.show(options["run"], on_this_host())
        self._tell(options, serialize.run_answer(found), text.run_lines(found))
        return 0

    def _watch(self, options: dict[str, Any]) -> int:
        return self._follow(options, runs.show(options["run"], on_this_host()))

    def _ledger_verify(self, options: dict[str, Any]) -> int:
        found = ledger.verify(on_this_host())
        line = (
            f"The ledger is intact: {found.entries} entries."
            if found.broken is None
            else f"The ledger is not as it was written. {found.broken.message}"
        )
        self._tell(options, serialize.verification_answer(found), [line])
        return 0 if found.intact else 1

    # --- changing ---------------------------------------------------------------------

    def _apply(self, options: dict[str, Any]) -> int:
        actor = on_this_host()
        request = plan_request(options)
        found = plan.plan(request, actor)
        if not options["json"]:
            self._tell(options, serialize.plan_answer(found), text.plan_lines(found))
        if (
            found.direction is not Direction.NONE
            and not options["yes"]
            and not self._agreed()
        ):
            self.stderr.write("Nothing was applied.")
            return 4
        run = applying.apply(
            applying.ApplyRequest(
                database=request.database,
                targets=request.targets,
                mode=request.mode,
                fingerprint=options["fingerprint"] or found.fingerprint,
                reason=options["reason"],
                rebuild_invalid_indexes=options["rebuild_invalid_indexes"],
            ),
            actor,
        )
        if options["no_wait"]:
            self._tell(options, serialize.run_answer(run), text.run_lines(run))
            return 0
        return self._follow(options, run)

    def _agreed(self) -> bool:
        """Ask the person at the terminal; where nobody can answer, nothing is applied."""
        if not sys.stdin.isatty():
            raise InvalidRequest(
                "Nobody can be asked here.",
                hint="Say --yes to apply without a question.",
            )
        return input("Apply this plan? [y/N] ").strip().lower() in {"y", "yes"}

    def _follow(self, options: dict[str, Any], run: RunRecord) -> int:
        """Print what happens until the run has ended; return the exit code of its end."""
        actor, after, ended = on_this_host(), 0, False
        while not ended:
            found = runs.happenings(run.id, actor, after=after)
            after, ended = found.last, found.ended
            if not options["json"]:
                for line in filter(None, map(text.event_line, found.events)):
                    self.stdout.write(line)
            if not found.events:
                runs.wait(run.id, actor, seconds=_LOOK)
        run = runs.show(run.id, actor)
        self._tell(options, serialize.run_answer(run), text.run_lines(run))
        return _EXIT_CODES.get(run.state, 1)

    def _ask(self, options: dict[str, Any]) -> int:
        found = asking.ask(options)
        self._tell(options, serialize.run_answer(found), text.run_lines(found))
        return 0

    def _resolve(self, options: dict[str, Any]) -> int:
        how = Resolution(options["how"])
        actor, reason = on_this_host(), options["reason"]
        found = resolve.resolve(options["run"], actor, reason=reason, how=how)
        if how is Resolution.RESUME:
            return self._follow(options, found)
        self._tell(options, serialize.run_answer(found), text.run_lines(found))
        return 0

    def _run(self, options: dict[str, Any]) -> int:
        found = carry.carry(options["run"])
        self._tell(options, serialize.run_answer(found), text.run_lines(found))
        return _EXIT_CODES.get(found.state, 1)

    def _token_new(self, options: dict[str, Any]) -> int:
        secret = new_secret()
        entry: dict[str, Any] = {
            "name": options["name"],
            "sha256": digest_of(secret),
            "scopes": sorted(set(options["scope"])),
        }
        if options["token_database"]:
            entry["databases"] = options["token_database"]
        if options["expires"]:
            entry["expires"] = options["expires"]
        if problems := read_settings({"TOKENS": [entry]}).problems:
            raise InvalidRequest(problems[0].removeprefix("TOKENS[0]: "))
        if options["json"]:
            self.stdout.write(
                msgspec.json.encode({"secret": secret, "entry": entry}).decode()
            )
            return 0
        self.stdout.write(f"The secret, shown this once:\n\n    {secret}\n")
        self.stdout.write('The entry for MIGRATION_ROUTE["TOKENS"]:\n')
        self.stdout.write(f"    {entry!r},")
        return 0
