"""How is it said whose approval a plan needs, and who has given it?"""

from __future__ import annotations

from collections.abc import Iterator

from migration_route.approvals import APPROVE
from migration_route.wire import ApprovalAnswer, DemandAnswer, SayingAnswer


def demand_words(demand: DemandAnswer | ApprovalAnswer, *, verb: str = "needs") -> str:
    """Say what is demanded, and why: "needs 1 approval by another person …"."""
    other = "" if demand.self_approval else "other "
    if demand.required == 1:
        who = f"1 approval by {'a person' if demand.self_approval else 'another person'}"
    else:
        who = f"{demand.required} approvals by as many {other}people"
    return f"{verb} {who} with {rights(demand)}, because {demand.why}"


def rights(demand: DemandAnswer | ApprovalAnswer) -> str:
    """Name the permissions that are demanded."""
    return " and ".join(
        "the right approve" if permission == APPROVE else f"the permission {permission}"
        for permission in demand.permissions
    )


def approval_lines(found: ApprovalAnswer | None) -> Iterator[str]:
    """Tell, for a terminal, whose approval a run needs and who has given it."""
    if found is None:
        return
    yield f"  {demand_words(found)}"
    yield f"  approved by {found.given} of {found.required}, expires {found.expires[:19]}Z"
    for one in found.by:
        yield f"    {one.name} at {one.at[:19]}Z{_because(one)}"
    if found.rejected:
        yield f"  rejected by {found.rejected.name}{_because(found.rejected)}"


def _because(one: SayingAnswer) -> str:
    return f": {one.reason}" if one.reason else ""
