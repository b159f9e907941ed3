"""Was this permit used before? Each is good for one run, which bears its id."""

from __future__ import annotations

from migration_route.conf import route_settings
from migration_route.errors import Forbidden
from migration_route.models import Run


class PermitUsed(Forbidden):
    """This permit was used before: it is good for one run."""

    code = "permit_used"
    hint = "Look at that run; 'manage.py migration_route permit' makes another permit."


def refuse_used_permit(permit: str | None) -> None:
    """Raise `PermitUsed`, naming the run, when a run bears this permit."""
    if permit is None:
        return
    alias = route_settings().ledger_database
    row = Run.objects.using(alias).filter(permit=permit).first()
    if row is not None:
        raise PermitUsed(f"This permit was used before, for run {row.id}.", run=row.id)
