"""Is this the password of the one who is signed in?"""

from __future__ import annotations

import inspect
from typing import Any

from django.contrib.auth import authenticate, get_backends
from django.contrib.auth.hashers import check_password
from django.db import DatabaseError
from django.http import HttpRequest

from migration_route.access.reauthentication.stamps import stamp
from migration_route.access.surroundings import unharmed


def has_password(user: Any) -> bool:
    """Tell whether asking for a password makes sense: the account has one, or a back end
    that keeps its accounts elsewhere, such as LDAP, takes one."""
    from django.contrib.auth.backends import (
        ModelBackend,  # brings models: a project may have none
    )

    return bool(user.has_usable_password()) or any(
        not isinstance(backend, ModelBackend)
        and "password" in inspect.signature(backend.authenticate).parameters
        for backend in get_backends()
    )


def is_password_of(user: Any, password: str, request: HttpRequest) -> bool:
    """Ask the project's own back ends, so that whatever counts failed logins counts.

    Where they cannot read the table of users, because it is behind the code, the hash
    that was read with the columns that exist decides.
    """
    try:
        with unharmed():
            found = authenticate(request, username=user.get_username(), password=password)
    except DatabaseError:
        return user.has_usable_password() and check_password(password, user.password)
    return found is not None and found.pk == user.pk


def renew(request: HttpRequest, user: Any) -> None:
    """Stamp the session, and give it a new key: whoever else has the old one is out."""
    stamp(request.session, user)
    request.session.cycle_key()
