"""The URLs of the staff pages."""

from __future__ import annotations

from django.urls import path

from migration_route.web import approvals, pending_form, permits, rehearsals, views
from migration_route.web.base import staff_page

urlpatterns = [
    path("", staff_page({"GET": views.dashboard}), name="dashboard"),
    path("plan/", staff_page({"GET": views.plan}), name="plan"),
    path("apply/", staff_page({"POST": views.apply}), name="apply"),
    path("runs/", staff_page({"GET": views.history}), name="history"),
    path("runs/<str:run>/", staff_page({"GET": views.run}), name="run"),
    path(
        "runs/<str:run>/approve/", staff_page({"POST": approvals.approve}), name="approve"
    ),
    path("runs/<str:run>/reject/", staff_page({"POST": approvals.reject}), name="reject"),
    path("runs/<str:run>/cancel/", staff_page({"POST": views.cancel}), name="cancel"),
    path("runs/<str:run>/pause/", staff_page({"POST": views.pause}), name="pause"),
    path("runs/<str:run>/resume/", staff_page({"POST": views.resume}), name="resume"),
    path("runs/<str:run>/resolve/", staff_page({"POST": views.resolve}), name="resolve"),
    path(
        "runs/<str:run>/terminate-blockers/",
        staff_page({"POST": views.terminate_blockers}),
        name="terminate-blockers",
    ),
    path("rehearse/", staff_page({"POST": rehearsals.rehearse}), name="rehearse"),
    path("rehearsals/", staff_page({"GET": rehearsals.listing}), name="rehearsals"),
    path(
        "rehearsals/<str:rehearsal>/",
        staff_page({"GET": rehearsals.show}),
        name="rehearsal",
    ),
    path("suspended/", staff_page({"GET": pending_form.show}), name="suspended"),
    path("permit/", permits.permit_view, name="permit"),
    path("ledger/", staff_page({"GET": views.ledger}), name="ledger"),
]
