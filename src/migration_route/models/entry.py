"""The row of an entry: one line of the ledger."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from migration_route.models.fields import AnyCharField


class Entry(models.Model):
    """Who did what, and how it went; never changed, each chained to the one before."""

    sequence = models.BigIntegerField(primary_key=True)
    uid = models.CharField(max_length=32, unique=True)
    at = models.CharField(_("time"), max_length=32)
    action = models.CharField(_("action"), max_length=40)
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("actor"), max_length=200, blank=True)
    address = AnyCharField(_("address"), max_length=100, blank=True)
    database = AnyCharField(_("database"), max_length=200, blank=True)
    run = models.CharField(_("run"), max_length=32, blank=True, db_index=True)
    build = AnyCharField(max_length=200, blank=True)
    facts = models.TextField()  # JSON
    previous = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        ordering = ("-sequence",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.sequence} {self.action}"
