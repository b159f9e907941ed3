"""The row of an event: something that happened in a run."""

from __future__ import annotations

from django.db import models

from migration_route.models.fields import AnyTextField


class Event(models.Model):
    """One happening, numbered from 1 in its run; each digest covers the one before."""

    id = models.BigAutoField(primary_key=True)
    run = models.CharField(max_length=32)
    number = models.BigIntegerField()
    at = models.CharField(max_length=32)
    kind = models.CharField(max_length=40)
    step = models.IntegerField(null=True)
    operation = models.IntegerField(null=True)
    duration_ms = models.BigIntegerField(null=True)
    text = AnyTextField(blank=True)
    facts = models.TextField()  # JSON
    digest = models.CharField(max_length=64)

    class Meta:
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("run", "number"), name="migration_route_event_number"
            ),
        )

    def __str__(self) -> str:
        return f"{self.run} {self.number} {self.kind}"
