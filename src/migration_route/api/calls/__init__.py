"""Which calls does the API answer to? `openapi.json` is made from them."""

from __future__ import annotations

from migration_route.api.calls.approvals import APPROVAL_CALLS
from migration_route.api.calls.call import TEXT as TEXT
from migration_route.api.calls.call import Call as Call
from migration_route.api.calls.ledger import LEDGER_CALLS
from migration_route.api.calls.people import PEOPLE_CALLS
from migration_route.api.calls.reading import READING_CALLS
from migration_route.api.calls.rehearsals import REHEARSAL_CALLS
from migration_route.api.calls.runs import RUN_CALLS

CALLS: tuple[Call, ...] = (
    *READING_CALLS,
    *RUN_CALLS,
    *APPROVAL_CALLS,
    *REHEARSAL_CALLS,
    *LEDGER_CALLS,
    *PEOPLE_CALLS,
)
