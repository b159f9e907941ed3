"""The URLs of the staff pages."""

from __future__ import annotations

from django.urls import path

from migration_route.web import pending_form, permits, views
from migration_route.web.base import staff_page

urlpatterns = [
    path("", staff_page({"GET": views.dashboard}), name="dashboard"),
    path("plan/", staff_page({"GET": views.plan}), name="plan"),
    path("plan/summary/", staff_page({"GET": views.plan_summary}), name="plan-summary"),
    path("apply/", staff_page({"POST": views.apply}), name="apply"),
    path("runs/", staff_page({"GET": views.history}), name="history"),
    path("runs/<str:run>/", staff_page({"GET": views.run}), name="run"),
    *(
        path(f"runs/<str:run>/{name}/", staff_page({"POST": page}), name=name)
        for name, page in views.RUN_FORMS.items()
    ),
    path("rehearse/", staff_page({"POST": views.rehearse}), name="rehearse"),
    path("rehearsals/", staff_page({"GET": views.list_rehearsals}), name="rehearsals"),
    path(
        "rehearsals/<str:rehearsal>/",
        staff_page({"GET": views.rehearsal}),
        name="rehearsal",
    ),
    path("suspended/", staff_page({"GET": pending_form.show}), name="suspended"),
    path("permit/", permits.permit_view, name="permit"),
    path("ledger/", staff_page({"GET": views.ledger}), name="ledger"),
]
