"""The row of a run: what was permitted, by whom, and how far it has come."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from migration_route.models.fields import AnyCharField, AnyTextField
from migration_route.vocabulary import Scope


class Run(models.Model):
    """One attempt at one plan. Only `migration_route.ledger` writes here."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    database = AnyCharField(_("database"), max_length=200, db_index=True)
    # The alias while the run may still own its database, NULL afterwards: the unique
    # index makes the second of two simultaneous requests fail.
    active_database = models.CharField(max_length=200, null=True, unique=True)  # noqa: DJ001
    state = models.CharField(_("state"), max_length=20, db_index=True)
    outcome = models.CharField(_("outcome"), max_length=40, blank=True)
    direction = models.CharField(max_length=10)
    mode = models.CharField(max_length=20)
    targets = models.TextField()  # JSON: ["app.name", …]
    fingerprint = models.CharField(_("fingerprint"), max_length=100)
    steps = models.TextField()  # JSON: what each step is and how far it has come
    error = models.TextField(blank=True)  # JSON
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("requested by"), max_length=200)
    address = AnyCharField(max_length=100, blank=True)
    reason = AnyTextField(_("reason"), blank=True)
    build = AnyCharField(max_length=200)
    # NULL where no Idempotency-Key came along: only keys are unique.
    idempotency_key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    request_digest = models.CharField(max_length=64)
    rebuild_invalid_indexes = models.BooleanField(default=False)
    # NULL where no permit came along: each is good for one run.
    permit = models.CharField(max_length=32, null=True, unique=True)  # noqa: DJ001
    phase = models.CharField(max_length=20, blank=True)  # "": everything
    deferred = models.TextField(blank=True)  # JSON: what that phase leaves out
    demand = models.TextField(blank=True)  # JSON: whose approval it needs; "": nobody's
    # The run that stopped midway and is resolved when this one begins; "": none.
    resumes = models.CharField(max_length=32, blank=True)
    waiting_reason = models.CharField(max_length=40, blank=True)
    waiting_until = models.CharField(max_length=32, blank=True)
    waiting_facts = models.TextField(blank=True)  # JSON: who is in the way, what was tried
    asked = models.CharField(max_length=20, blank=True)  # what a person wants of it next
    begin_at = models.CharField(max_length=32, blank=True)  # not before; "": at once
    in_spite = models.BooleanField(default=False)  # of windows and freezes, by a person
    carrier = models.CharField(max_length=32, blank=True)  # whose it is; "": nobody's
    host = AnyCharField(max_length=200, blank=True)
    supervisor_pid = models.BigIntegerField(null=True)
    worker_pid = models.BigIntegerField(null=True)
    created_at = models.CharField(_("created"), max_length=32)
    started_at = models.CharField(max_length=32, blank=True)
    finished_at = models.CharField(max_length=32, blank=True)
    heartbeat_at = models.CharField(max_length=32)
    last_event = models.BigIntegerField(default=0)

    class Meta:
        verbose_name = _("run")
        verbose_name_plural = _("runs")
        ordering = ("-id",)
        default_permissions = ("view",)
        permissions = (
            (Scope.PLAN.value, _("Can read plans")),
            (Scope.REHEARSE.value, _("Can rehearse plans")),
            (Scope.APPLY.value, _("Can apply migrations")),
            (Scope.REVERSE.value, _("Can reverse migrations")),
            (Scope.FAKE.value, _("Can record migrations without running them")),
            (Scope.OPERATE.value, _("Can cancel, hold and resume runs")),
            (Scope.APPROVE.value, _("Can approve plans")),
            (Scope.FORCE.value, _("Can force runs to stop")),
            (Scope.RESOLVE.value, _("Can resolve runs that stopped midway")),
        )

    def __str__(self) -> str:
        return f"{self.database} {self.id} {self.state}"
