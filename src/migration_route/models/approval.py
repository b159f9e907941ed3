"""The row of an approval, or of a rejection: what a person said of a run."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from migration_route.models.fields import AnyCharField, AnyTextField


class Approval(models.Model):
    """What one person said of one run; never changed. Only `migration_route.ledger`
    writes here."""

    id = models.BigAutoField(primary_key=True)
    run = models.CharField(_("run"), max_length=32)
    fingerprint = models.CharField(_("fingerprint"), max_length=100)
    decision = models.CharField(_("decision"), max_length=10)
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("actor"), max_length=200)
    address = AnyCharField(_("address"), max_length=100, blank=True)
    permissions = models.TextField()  # JSON: those that mattered, and that they had
    reason = AnyTextField(_("reason"), blank=True)
    at = models.CharField(_("time"), max_length=32)

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ("-id",)
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("run", "decision", "actor_kind", "actor_name"),
                name="migration_route_approval_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.run} {self.decision} {self.actor_name}"
