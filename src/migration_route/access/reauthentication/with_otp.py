"""Has the second factor of django-otp been shown, where a user has one?"""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, resolve, reverse


def lacks_second_factor(user: Any) -> bool:
    """Tell whether the user has a confirmed device that this session was not verified
    with. Raises `DatabaseError` where a table of devices cannot be read."""
    if not apps.is_installed("django_otp") or not _has_device(user):
        return False
    verified = getattr(user, "is_verified", None)
    # Without the middleware of django-otp nobody can tell: not verified.
    return verified is None or not verified()


def _has_device(user: Any) -> bool:
    from django_otp import device_classes

    for model in device_classes():
        rows = model._default_manager.filter(user_id=user.pk, confirmed=True)
        if rows.exists():
            return True
    return False


def page_for_second_factor() -> str | None:
    """Return where it is shown: OTP_LOGIN_URL where it is set, else the login of an admin
    that asks for it; None where the project has neither."""
    from django_otp.admin import OTPAdminSite

    if login := getattr(settings, "OTP_LOGIN_URL", None):
        return str(resolve_url(login))
    try:
        index = resolve(reverse("admin:index"))
    except NoReverseMatch:
        return None
    site = getattr(index.func, "admin_site", None)
    return reverse("admin:login") if isinstance(site, OTPAdminSite) else None
