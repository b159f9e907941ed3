"""The addresses of the staff pages."""

from __future__ import annotations

from django.urls import path

from migration_route.web import approvals, pending_form, permits, rehearsals, views
from migration_route.web.base import page

urlpatterns = [
    path("", page({"GET": views.dashboard}), name="dashboard"),
    path("plan/", page({"GET": views.plan}), name="plan"),
    path("apply/", page({"POST": views.apply}), name="apply"),
    path("runs/", page({"GET": views.history}), name="history"),
    path("runs/<str:run>/", page({"GET": views.run}), name="run"),
    path("runs/<str:run>/approve/", page({"POST": approvals.approve}), name="approve"),
    path("runs/<str:run>/reject/", page({"POST": approvals.reject}), name="reject"),
    path("runs/<str:run>/cancel/", page({"POST": views.cancel}), name="cancel"),
    path("runs/<str:run>/hold/", page({"POST": views.hold}), name="hold"),
    path("runs/<str:run>/resume/", page({"POST": views.resume}), name="resume"),
    path("runs/<str:run>/resolve/", page({"POST": views.resolve}), name="resolve"),
    path(
        "runs/<str:run>/end-blockers/",
        page({"POST": views.end_blockers}),
        name="end-blockers",
    ),
    path("rehearse/", page({"POST": rehearsals.rehearse}), name="rehearse"),
    path("rehearsals/", page({"GET": rehearsals.listing}), name="rehearsals"),
    path(
        "rehearsals/<str:rehearsal>/",
        page({"GET": rehearsals.show}),
        name="rehearsal",
    ),
    path("suspended/", page({"GET": pending_form.show}), name="suspended"),
    path("permit/", permits.permit_view, name="permit"),
    path("ledger/", page({"GET": views.ledger}), name="ledger"),
]
