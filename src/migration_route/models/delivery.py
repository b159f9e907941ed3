"""The rows of what is still to be told: how far each recipient has got, and what waits."""

from __future__ import annotations

from django.db import models

from migration_route.models.fields import AnyCharField


class Outbox(models.Model):
    """Up to which entry a recipient's messages were made, and who delivers them now."""

    recipient = models.CharField(primary_key=True, max_length=60)
    sequence = models.BigIntegerField()  # of the last entry that was looked at
    leased_by = models.CharField(max_length=32, blank=True)
    leased_until = models.CharField(max_length=32, blank=True)
    paused_until = models.CharField(max_length=32, blank=True)  # it did not answer

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.recipient} up to {self.sequence}"


class Delivery(models.Model):
    """One message that has not arrived; the row goes when it has."""

    id = models.BigAutoField(primary_key=True)
    recipient = models.CharField(max_length=60)
    sequence = models.BigIntegerField()  # of its entry
    event = models.CharField(max_length=40)
    run = models.CharField(max_length=32, blank=True)
    at = models.CharField(max_length=32)  # of its entry
    attempts = models.IntegerField(default=0)
    due_at = models.CharField(max_length=32)
    is_given_up = models.BooleanField(default=False)
    error = AnyCharField(max_length=200, blank=True)  # why it did not arrive

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=("recipient", "sequence"), name="migration_route_delivery_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.recipient} {self.sequence} {self.event}"
