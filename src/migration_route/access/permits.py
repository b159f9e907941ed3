"""Who comes with a permit, and for what is it good? No table is touched."""

from __future__ import annotations

from migration_route.access.actor import Actor, Credential
from migration_route.access.signing import LONGEST, is_expired, read_permit
from migration_route.conf import route_settings
from migration_route.errors import RouteError, Unauthenticated
from migration_route.vocabulary import ActorKind, Scope

_HINT = "'manage.py migration_route permit FINGERPRINT' on a host makes one."


def find_permit(text: str, *, address: str) -> Actor:
    """Return the actor who has brought a permit: they read its database, and carry out
    its plan. One that is not good has a flaw."""
    if not route_settings().permits:
        return _flawed(address, Unauthenticated("Permits are switched off here."))
    if len(text) > LONGEST:
        return _flawed(address, Unauthenticated("This is no permit.", hint=_HINT))
    try:
        permit = read_permit(text)
    except Unauthenticated as error:
        return _flawed(address, error)
    credential = Credential(id=permit.id)
    flaw = None
    if is_expired(permit):
        flaw = Unauthenticated(f"This permit has expired: {permit.expires}.", hint=_HINT)
    return Actor(
        kind=ActorKind.PERMIT,
        name=permit.issued_by,
        address=address,
        scopes=frozenset(map(Scope, permit.scopes)) | {Scope.READ, Scope.PLAN},
        databases=frozenset({permit.database}),
        flaw=flaw,
        credential=credential,
        permit=permit,
    )


def _flawed(address: str, flaw: RouteError) -> Actor:
    return Actor(kind=ActorKind.PERMIT, address=address, flaw=flaw)
