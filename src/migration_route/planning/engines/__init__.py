"""What do other linters say, where they are installed?

Each engine is a module with `results(plan, migrations)`. What the route's own rules look at
as well is left to them: they know the states of the project and what the plan makes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.db.migrations import Migration

from migration_route.conf import route_settings
from migration_route.planning.engines import safe_migrations, squawk
from migration_route.planning.engines.mapping import LEFT_OUT, SAID_BY_OURS
from migration_route.planning.engines.values import Result
from migration_route.planning.plan import Finding, Plan
from migration_route.vocabulary import Direction, Mode, Severity

logger = logging.getLogger("migration_route.planning")

_ENGINES = (safe_migrations, squawk)


def findings(plan: Plan, migrations: list[tuple[Migration, bool]]) -> Iterator[Finding]:
    """Go through what the engines say that the route does not say itself.

    An engine that is not installed, or fails, says nothing; the log names the failure.
    """
    if plan.direction is not Direction.FORWARDS or plan.mode is Mode.FAKE:
        return
    if not route_settings().engines:
        return
    for engine in _ENGINES:
        try:
            results = list(engine.results(plan, migrations))
        except Exception:
            # Somebody else's code: a plan without its remarks is still a plan.
            logger.warning("%s has failed", engine.__name__, exc_info=True)
            continue
        for result in results:
            if result.code not in SAID_BY_OURS and result.code not in LEFT_OUT:
                yield _finding(result)


def _finding(result: Result) -> Finding:
    return Finding(
        code=result.code,
        severity=Severity.INFO,
        step=result.step,
        operation=result.operation,
        message=result.message,
        hint=result.hint,
    )
