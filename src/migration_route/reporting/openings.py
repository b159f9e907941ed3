"""How is it told when a run may begin?"""

from __future__ import annotations

from typing import assert_never

import msgspec

from migration_route import clock, wire
from migration_route.deciding.windows import Later, Never, Now, Opening


def opening_answer(found: Opening) -> wire.OpeningAnswer:
    """Return an opening."""
    match found:
        case Now():
            return wire.OpeningAnswer(at=None, reason="now", why="It may begin now.")
        case Later(at=at, reason=reason, why=why):
            return wire.OpeningAnswer(at=clock.written(at), reason=reason, why=why)
        case Never(why=why):
            return wire.OpeningAnswer(at=None, reason="never", why=why)
        case _:
            assert_never(found)


def with_opening(answer: wire.PlanAnswer, found: Opening) -> wire.PlanAnswer:
    """Return a plan with when its run might begin."""
    return msgspec.structs.replace(answer, opening=opening_answer(found))
