"""The call of the JSON API by which a person shows anew who they are."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse

from migration_route import wire
from migration_route.access.reauthentication.passwords import is_password_of, renew
from migration_route.access.requests import find_actor
from migration_route.access.sessions import recognise
from migration_route.api import parsing
from migration_route.operations import reauthenticate


def post_reauthenticate(request: HttpRequest) -> HttpResponse:
    """`POST reauthenticate`: 204, with a new session cookie, when the password is right."""
    actor = find_actor(request)
    parsing.check_query(request, ())
    body = parsing.body_of(request, wire.Reauthenticate)

    def is_right() -> bool:
        user = recognise(request, address=actor.address).user
        return is_password_of(user, body.password, request)

    def renew_session() -> None:
        renew(request, recognise(request, address=actor.address).user)

    reauthenticate.reauthenticate(actor, is_right=is_right, renew=renew_session)
    return HttpResponse(status=204)
