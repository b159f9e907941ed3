"""Which calls are about runs?"""

from __future__ import annotations

from migration_route import wire
from migration_route.api.calls.call import (
    AFTER,
    ERRORS_OF_A_WISH,
    LIMIT,
    RUN_ID,
    TEXT,
    Call,
    header,
    query,
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
    Call(
        method="post",
        path="/runs/{run}/cancel",
        summary="Stop a run, in the middle of a statement as well; `force` kills it",
        answers={200: wire.RunAnswer},
        body=wire.CancelRun,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
    Call(
        method="post",
        path="/runs/{run}/hold",
        summary="Let a run wait before its next step",
        answers={200: wire.RunAnswer},
        body=wire.GiveReason,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
    Call(
        method="post",
        path="/runs/{run}/resume",
        summary="Let a run go on that is held; `force`: in spite of the signals",
        answers={200: wire.RunAnswer},
        body=wire.ResumeRun,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
    Call(
        method="post",
        path="/runs/{run}/resolve",
        summary="Open a database again that a run left in between; for people only",
        answers={200: wire.RunAnswer},
        body=wire.Resolve,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
    Call(
        method="post",
        path="/runs/{run}/end-blockers",
        summary="End the sessions that are in the way of a run; for people only",
        answers={200: wire.EndedBlockersAnswer},
        body=wire.GiveReason,
        parameters=(RUN_ID,),
        errors=ERRORS_OF_A_WISH,
    ),
)
