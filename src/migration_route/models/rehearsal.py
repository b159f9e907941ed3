"""The row of a rehearsal: a plan carried out to see what it does, and what was seen."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from migration_route.models.fields import AnyCharField, AnyTextField


class Rehearsal(models.Model):
    """One plan, carried out. Only `migration_route.ledger` writes here."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    database = AnyCharField(_("database"), max_length=200, db_index=True)
    # The alias while it is under way, NULL afterwards: one rehearsal at a time.
    active_database = models.CharField(max_length=200, null=True, unique=True)  # noqa: DJ001
    state = models.CharField(_("state"), max_length=20)
    kind = models.CharField(_("kind"), max_length=20)
    and_back = models.BooleanField(default=False)
    in_place = models.BooleanField(default=False)  # on no copy, and rolled back
    direction = models.CharField(max_length=10)
    targets = models.TextField()  # JSON: ["app.name", …]
    fingerprint = models.CharField(_("fingerprint"), max_length=100)
    steps = models.TextField()  # JSON: [[app, name, digest], …]
    phase = models.CharField(max_length=20, blank=True)  # "": everything
    left_out = models.TextField(blank=True)  # JSON, as in `steps`: by that phase
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("requested by"), max_length=200)
    address = AnyCharField(max_length=100, blank=True)
    reason = AnyTextField(_("reason"), blank=True)
    build = AnyCharField(max_length=200)
    # The database that is made for it, "" where none was; it is removed by whoever looks.
    scratch = models.CharField(max_length=100, blank=True)
    is_removed = models.BooleanField(default=True)
    host = AnyCharField(max_length=200, blank=True)
    pid = models.BigIntegerField(null=True)
    created_at = models.CharField(_("created"), max_length=32)
    started_at = models.CharField(max_length=32, blank=True)
    finished_at = models.CharField(max_length=32, blank=True)
    heartbeat_at = models.CharField(max_length=32)
    error = models.TextField(blank=True)  # JSON
    report = models.TextField(blank=True)  # JSON

    class Meta:
        verbose_name = _("rehearsal")
        verbose_name_plural = _("rehearsals")
        ordering = ("-id",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.database} {self.id} {self.state}"
