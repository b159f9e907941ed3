"""Which calls are about runs?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import (
    AFTER,
    LIMIT,
    RUN_ID,
    TEXT,
    Call,
    header,
    query,
    wish,
)

RUN_CALLS = (
    Call(
        method="get",
        path="/runs",
        summary="Runs, newest first",
        answers={200: wire.RunsAnswer},
        parameters=(
            query("database", TEXT, "Only those of one database."),
            query("before", TEXT, "The cursor `next` of the page before."),
            LIMIT,
        ),
    ),
    Call(
        method="post",
        path="/runs",
        summary="Carry out the plan with this fingerprint",
        answers={200: wire.RunAnswer, 202: wire.RunAnswer},
        body=wire.CreateRun,
        parameters=(
            header(
                "Idempotency-Key",
                {"type": "string", "minLength": 1, "maxLength": 200},
                "The same key and body start one run.",
            ),
            header("Prefer", TEXT, "wait=30 waits for an end up to that many seconds."),
        ),
        errors=(400, 401, 403, 404, 405, 409, 413, 422, 428, 500, 503),
    ),
    Call(
        method="get",
        path="/runs/{run}",
        summary="One run",
        answers={200: wire.RunAnswer},
        parameters=(RUN_ID,),
    ),
    Call(
        method="get",
        path="/runs/{run}/events",
        summary="What happened in a run, in order",
        answers={200: wire.EventsAnswer},
        parameters=(
            RUN_ID,
            AFTER,
            query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "At most."),
        ),
    ),
    wish(
        "cancel",
        "Stop a run, in the middle of a statement as well; `force` kills it",
        body=wire.CancelRun,
    ),
    wish(
        "hold",
        "Let a run wait before its next step",
        body=wire.GiveReason,
    ),
    wish(
        "resume",
        "Let a run go on that is held, or look again for its opening; `force`: in spite "
        "of the signals, windows and freezes",
        body=wire.ResumeRun,
    ),
    wish(
        "resolve",
        "Open a database again that a run left in between; for people only",
        body=wire.Resolve,
    ),
    wish(
        "end-blockers",
        "End the sessions that are in the way of a run; for people only",
        body=wire.GiveReason,
        answer=wire.EndedBlockersAnswer,
    ),
)
