"""Tests that django-allauth and django-otp take part in reauthentication, in whole
projects."""

from __future__ import annotations

import re

import pytest

from tests.e2e.test_people import form_of, is_stale, press_apply, run_of
from tests.harness.client import expect_problem
from tests.harness.migrations import column
from tests.harness.pairs import on
from tests.harness.project import PASSWORD, Options

CONTRIB = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ALLAUTH = {
    "INSTALLED_APPS": [
        "shop",
        *CONTRIB,
        "allauth",
        "allauth.account",
        "allauth.mfa",
        "migration_route",
    ],
    "MIDDLEWARE": [*MIDDLEWARE, "allauth.account.middleware.AccountMiddleware"],
    "AUTHENTICATION_BACKENDS": [
        "django.contrib.auth.backends.ModelBackend",
        "allauth.account.auth_backends.AuthenticationBackend",
    ],
    "MFA_TOTP_INSECURE_BYPASS_CODE": "123456",
    "DEBUG": True,
}
OTP = {
    "INSTALLED_APPS": [
        "shop",
        *CONTRIB,
        "django_otp",
        "django_otp.plugins.otp_static",
        "migration_route",
    ],
    "MIDDLEWARE": [*MIDDLEWARE, "django_otp.middleware.OTPMiddleware"],
}
WITHOUT_A_PASSWORD = """
from importlib import import_module
from django.conf import settings
from django.contrib import auth
boss = auth.get_user_model().objects.get(username="boss")
boss.set_unusable_password()
boss.save()
session = import_module(settings.SESSION_ENGINE).SessionStore()
session[auth.SESSION_KEY] = str(boss.pk)
session[auth.BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
session[auth.HASH_SESSION_KEY] = boss.get_session_auth_hash()
session.save()
print(session.session_key)
"""
SECOND_FACTOR = """
from django.contrib.auth import get_user_model
from allauth.mfa.totp.internal.auth import TOTP
TOTP.activate(get_user_model().objects.get(username="boss"), "JBSWY3DPEHPK3PXP")
"""
DEVICE = """
from django.contrib.auth import get_user_model
from django_otp.plugins.otp_static.models import StaticDevice
boss = get_user_model().objects.get(username="boss")
device = StaticDevice.objects.create(user=boss, name="codes", confirmed=True)
device.token_set.create(token="first")
device.token_set.create(token="second")
print(device.persistent_id)
"""


def csrf_token_of(page):
    """Return the CSRF token of the form on a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    assert found
    return found[1]


def site_with(build, pair, settings, limit="15m"):
    """Build a project with these packages, with their tables and a pending migration."""
    options = Options(settings=settings, migration_route={"REAUTHENTICATION": limit})
    site = build(pair, {"0002_sku": column("sku")}, options=options, serve=False)
    site.project.manage("migrate", "shop", "0001")
    for app in ("account", "mfa", "otp_static"):
        if any(entry.endswith(app) for entry in settings["INSTALLED_APPS"]):
            site.project.manage("migrate", app)
    site.serve(timeout=60)
    return site


def signed_in_without_a_password(site):
    """Return a client with a session of an account that has no password."""
    browser = site.client(None)
    key = site.project.python(WITHOUT_A_PASSWORD).splitlines()[-1]
    browser.http.cookies.set("sessionid", key, domain="127.0.0.1", path="/")
    browser.http.get("/_m/plan/")
    browser.http.headers["X-CSRFToken"] = browser.http.cookies["csrftoken"]
    return browser


@on("sqlite-gthread")
def test_allauth_asks_for_a_second_factor_where_there_is_no_password(build, pair):
    """Its own page opens, the form is kept, and is offered again afterwards."""
    site = site_with(build, pair, ALLAUTH)
    site.project.python(SECOND_FACTOR)
    boss = signed_in_without_a_password(site)
    problem = expect_problem(
        boss.ask_for_run(boss.plan()), 403, "reauthentication_required"
    )
    assert problem["facts"]["way"] == "elsewhere"
    gone = press_apply(boss)
    address = "/accounts/2fa/reauthenticate/?next=%2F_m%2Fsuspended%2F"
    assert (gone.status_code, gone.headers["Location"]) == (302, address)
    page = boss.http.get(address)
    assert page.status_code == 200
    token = csrf_token_of(page)
    form = {"code": "123456", "csrfmiddlewaretoken": token, "next": "/_m/suspended/"}
    back = boss.http.post(address, data=form)
    assert back.status_code == 302, back.text
    assert back.headers["Location"] == "/_m/suspended/"
    offered = boss.http.get("/_m/suspended/")
    address, fields = form_of(offered)
    assert address == "/_m/apply/"
    assert site.applied() == ["0001_initial"]
    run = run_of(boss, boss.http.post(address, data=fields))
    assert (run["state"], run["reason"]) == ("succeeded", "a walk")
    assert boss.http.get("/_m/suspended/").status_code == 302


@on("sqlite-gthread")
def test_who_has_neither_password_nor_second_factor_is_not_always_fresh(build, pair):
    """allauth reports a fresh login; this package requires a new login."""
    site = site_with(build, pair, ALLAUTH)
    boss = signed_in_without_a_password(site)
    page = press_apply(boss)
    assert page.status_code == 403
    assert "Sign out and in again" in page.text
    problem = expect_problem(
        boss.ask_for_run(boss.plan()), 403, "reauthentication_required"
    )
    assert problem["facts"] == {"way": "login", "address": ""}
    assert site.applied() == ["0001_initial"]


@on("sqlite-gthread")
def test_a_password_that_allauth_has_asked_for_counts(build, pair):
    """Its record in the session is read."""
    site = site_with(build, pair, ALLAUTH, limit="20s")
    boss = site.person("boss")
    is_stale(boss, seconds=60)
    page = boss.http.get("/accounts/reauthenticate/")
    token = csrf_token_of(page)
    form = {"password": PASSWORD, "csrfmiddlewaretoken": token, "next": "/_m/"}
    assert boss.http.post("/accounts/reauthenticate/", data=form).status_code == 302
    assert run_of(boss, press_apply(boss))["state"] == "succeeded"


@on("sqlite-gthread")
def test_otp_wants_the_device_that_somebody_has(build, pair):
    """Without a device the timestamp is enough; with one, the session must be verified, and
    the form is kept until then."""
    site = site_with(build, pair, OTP)
    boss = site.person("boss", at="/accounts/login/")
    answer = boss.call("POST", "runs", json={})
    expect_problem(answer, 428, "fingerprint_required")
    device = site.project.python(DEVICE).splitlines()[-1]
    problem = expect_problem(
        boss.ask_for_run(boss.plan()), 403, "reauthentication_required"
    )
    assert problem["facts"]["way"] == "elsewhere"
    body = {"password": PASSWORD}
    answer = boss.call("POST", "reauthenticate", json=body)
    expect_problem(answer, 403, "reauthentication_required")
    gone = press_apply(boss)
    address = "/admin/login/?next=%2F_m%2Fsuspended%2F"
    assert (gone.status_code, gone.headers["Location"]) == (302, address)
    page = boss.http.get(address)
    token = csrf_token_of(page)
    form = {
        "username": "boss",
        "password": PASSWORD,
        "otp_device": device,
        "otp_token": "first",
        "csrfmiddlewaretoken": token,
        "next": "/_m/suspended/",
    }
    back = boss.http.post(address, data=form)
    assert back.status_code == 302, back.text
    boss.http.headers["X-CSRFToken"] = boss.http.cookies["csrftoken"]
    address, fields = form_of(boss.http.get("/_m/suspended/"))
    fields["csrfmiddlewaretoken"] = boss.http.cookies["csrftoken"]
    assert run_of(boss, boss.http.post(address, data=fields))["state"] == "succeeded"


@pytest.mark.parametrize("settings", [{**OTP, "MIDDLEWARE": MIDDLEWARE}])
@on("sqlite-gthread")
def test_otp_without_its_middleware_verifies_nobody(build, pair, settings):
    """An incomplete configuration allows no change."""
    site = site_with(build, pair, settings)
    site.project.python(DEVICE)
    boss = site.person("boss", at="/accounts/login/")
    problem = expect_problem(
        boss.ask_for_run(boss.plan()), 403, "reauthentication_required"
    )
    assert "second factor" in problem["detail"]
