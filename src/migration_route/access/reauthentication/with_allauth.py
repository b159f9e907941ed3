"""What does django-allauth know of a login, where a project has it?

Its own question, `did_recently_reauthenticate`, is not asked: it answers yes for whoever
has neither a password nor a second factor.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps
from django.urls import NoReverseMatch, reverse

from migration_route.access.reauthentication.stamps import age

_RECORDS = "account_authentication_methods"
_USER = "account_authentication_methods_user"


def age_of_record(session: Any, user: Any) -> timedelta | None:
    """Return how long ago allauth let this user show again who they are; None where it
    did not in this session."""
    if not apps.is_installed("allauth.account"):
        return None
    records = session.get(_RECORDS)
    if not isinstance(records, list) or session.get(_USER, str(user.pk)) != str(user.pk):
        return None
    for record in reversed(records):
        if isinstance(record, dict) and record.get("reauthenticated"):
            try:
                return age(datetime.fromtimestamp(record["at"], UTC))
            except (KeyError, TypeError, ValueError, OverflowError, OSError):
                return None
    return None


def page_for(user: Any) -> str | None:
    """Return the page on which allauth lets a user without a password show who they are:
    that of the second factor. Raises `DatabaseError` where its tables cannot be read."""
    if not apps.is_installed("allauth.mfa"):
        return None
    from allauth.mfa.utils import is_mfa_enabled

    try:
        page = reverse("mfa_reauthenticate")
    except NoReverseMatch:
        return None
    return page if is_mfa_enabled(user) else None
