"""Mounts this package, beside the few pages that the end-to-end tests use."""

from __future__ import annotations

from django.apps import apps
from django.contrib.auth.decorators import login_not_required
from django.urls import include, path

from market import views

urlpatterns = [
    path("pid/", login_not_required(views.pid)),
    path("shout/", login_not_required(views.shout)),
    path("session/", login_not_required(views.session)),
]

if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin
    from django.contrib.auth.views import LoginView

    urlpatterns += [
        path("admin/", admin.site.urls),
        path("accounts/login/", LoginView.as_view()),
    ]

if apps.is_installed("django_otp"):
    from django_otp.admin import OTPAdminSite

    admin.site.__class__ = OTPAdminSite  # as in its documentation

if apps.is_installed("allauth.account"):
    urlpatterns += [path("accounts/", include("allauth.urls"))]

if apps.is_installed("migration_route"):
    from migration_route.views import perform_migration

    urlpatterns += [
        path("_m/", include("migration_route.urls")),
        path("perform/", perform_migration),
    ]
