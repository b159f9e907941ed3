"""Database tables of this package.

Times and JSON are stored as text, and no row refers to a table outside this app: the tables
can be created on an empty database, and a digest covers exactly what is stored.
"""

from __future__ import annotations

from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext_lazy as _

from migration_route.core.enums import Scope
from migration_route.core.uncached import UncachedManager
from migration_route.vendors.encodings import storable

__all__ = [
    "Approval",
    "Delivery",
    "Entry",
    "Event",
    "Outbox",
    "Rehearsal",
    "Run",
]


def stored_values(
    model: type[models.Model], alias: str, columns: dict[str, Any]
) -> dict[str, Any]:
    """Return columns with the values of `AnyText` fields as the database returns them, so
    that a digest covers exactly what is stored."""
    stored = {
        field.name: field.stored(columns[field.name], connections[alias])
        for field in model._meta.concrete_fields
        if isinstance(field, AnyText)
    }
    return {**columns, **stored}


def columns_of(row: models.Model) -> dict[str, Any]:
    """Return the values of a row by column."""
    return {field.name: field.value_from_object(row) for field in row._meta.concrete_fields}


class AnyText:
    """A text field that escapes what the database cannot store."""

    max_length: int | None

    def stored(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return a value as the database stores it, truncated to `max_length`."""
        if not isinstance(value, str):
            return value
        return storable(connection, value)[: self.max_length]

    def get_db_prep_value(
        self,
        value: Any,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: FBT001, FBT002 - Django's signature
    ) -> Any:
        """Escape values that are written, and values that they are compared with."""
        found = super().get_db_prep_value(value, connection, prepared)  # type: ignore[misc]
        return self.stored(found, connection)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        """Appear in migrations as Django's own field: the column is the same."""
        name, path, args, kwargs = super().deconstruct()  # type: ignore[misc]
        return name, path.replace(f"{__name__}.Any", "django.db.models."), args, kwargs


class AnyCharField(AnyText, models.CharField):  # type: ignore[type-arg]
    pass


class AnyTextField(AnyText, models.TextField):  # type: ignore[type-arg]
    pass


class Approval(models.Model):
    """The decision of one user about one run; never changed. Only `migration_route.ledger`
    writes to this table."""

    id = models.BigAutoField(primary_key=True)
    run = models.CharField(_("run"), max_length=32)
    fingerprint = models.CharField(_("fingerprint"), max_length=100)
    decision = models.CharField(_("decision"), max_length=10)
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("actor"), max_length=200)
    actor_key = AnyCharField(max_length=200)  # a primary key, or an account of the host
    address = AnyCharField(_("address"), max_length=100, blank=True)
    permissions = models.TextField()  # JSON: relevant permissions of the actor
    reason = AnyTextField(_("reason"), blank=True)
    at = models.CharField(_("time"), max_length=32)

    objects = UncachedManager()

    class Meta:
        verbose_name = _("approval")
        verbose_name_plural = _("approvals")
        ordering = ("-id",)
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("run", "decision", "actor_kind", "actor_key"),
                name="migration_route_approval_once",
            ),
        )

    def __str__(self) -> str:
        return f"{self.run} {self.decision} {self.actor_name}"


class Outbox(models.Model):
    """How far messages were created for one recipient, and which process delivers them."""

    recipient = models.CharField(primary_key=True, max_length=60)
    sequence = models.BigIntegerField()  # of the last entry that was processed
    leased_by = models.CharField(max_length=32, blank=True)
    leased_until = models.CharField(max_length=32, blank=True)
    paused_until = models.CharField(max_length=32, blank=True)  # after a failed delivery

    objects = UncachedManager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.recipient} up to {self.sequence}"


class Delivery(models.Model):
    """One message that is not delivered yet; the row is deleted on delivery."""

    id = models.BigAutoField(primary_key=True)
    recipient = models.CharField(max_length=60)
    sequence = models.BigIntegerField()  # of its entry
    event = models.CharField(max_length=40)
    run = models.CharField(max_length=32, blank=True)
    at = models.CharField(max_length=32)  # of its entry
    attempts = models.IntegerField(default=0)
    due_at = models.CharField(max_length=32)
    is_given_up = models.BooleanField(default=False)
    error = AnyCharField(max_length=200, blank=True)  # of the last attempt

    objects = UncachedManager()

    class Meta:
        default_permissions = ()
        constraints = (
            models.UniqueConstraint(
                fields=("recipient", "sequence"), name="migration_route_delivery_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.recipient} {self.sequence} {self.event}"


class Entry(models.Model):
    """One entry of the ledger: who did what, and the result. Never changed; each entry is
    chained to the previous one."""

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

    objects = UncachedManager()

    class Meta:
        verbose_name = _("entry")
        verbose_name_plural = _("entries")
        ordering = ("-sequence",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.sequence} {self.action}"


class Event(models.Model):
    """One event of a run, numbered from 1; each digest covers the previous event."""

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

    objects = UncachedManager()

    class Meta:
        default_permissions = ("view",)
        constraints = (
            models.UniqueConstraint(
                fields=("run", "number"), name="migration_route_event_number"
            ),
        )

    def __str__(self) -> str:
        return f"{self.run} {self.number} {self.kind}"


class Rehearsal(models.Model):
    """One rehearsal of a plan. Only `migration_route.ledger` writes to this table."""

    id = models.CharField(primary_key=True, max_length=32, editable=False)
    database = AnyCharField(_("database"), max_length=200, db_index=True)
    # The alias while the rehearsal is active, NULL afterwards: one rehearsal at a time.
    active_database = models.CharField(max_length=200, null=True, unique=True)  # noqa: DJ001
    state = models.CharField(_("state"), max_length=20)
    kind = models.CharField(_("kind"), max_length=20)
    round_trip = models.BooleanField(default=False)
    in_place = models.BooleanField(default=False)  # without a copy, rolled back
    direction = models.CharField(max_length=10)
    targets = models.TextField()  # JSON: ["app.name", …]
    fingerprint = models.CharField(_("fingerprint"), max_length=100)
    steps = models.TextField()  # JSON: [[app, name, digest], …]
    phase = models.CharField(max_length=20, blank=True)  # "": all phases
    left_out = models.TextField(blank=True)  # JSON, as in `steps`: not in the phase
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("requested by"), max_length=200)
    address = AnyCharField(max_length=100, blank=True)
    reason = AnyTextField(_("reason"), blank=True)
    build = AnyCharField(max_length=200)
    # The database created for the rehearsal, "" if none; any process may remove it.
    scratch_database = models.CharField(max_length=100, blank=True)
    is_removed = models.BooleanField(default=True)
    host = AnyCharField(max_length=200, blank=True)
    pid = models.BigIntegerField(null=True)
    created_at = models.CharField(_("created"), max_length=32)
    started_at = models.CharField(max_length=32, blank=True)
    finished_at = models.CharField(max_length=32, blank=True)
    heartbeat_at = models.CharField(max_length=32)
    error = models.TextField(blank=True)  # JSON
    report = models.TextField(blank=True)  # JSON

    objects = UncachedManager()

    class Meta:
        verbose_name = _("rehearsal")
        verbose_name_plural = _("rehearsals")
        ordering = ("-id",)
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.database} {self.id} {self.state}"


class Run(models.Model):
    """One attempt at one plan. Only `migration_route.ledger` writes to this table."""

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
    steps = models.TextField()  # JSON: each step and its progress
    error = models.TextField(blank=True)  # JSON
    actor_kind = models.CharField(max_length=20)
    actor_name = AnyCharField(_("requested by"), max_length=200)
    actor_key = AnyCharField(max_length=200)  # a primary key, or an account of the host
    address = AnyCharField(max_length=100, blank=True)
    reason = AnyTextField(_("reason"), blank=True)
    build = AnyCharField(max_length=200)
    # NULL without an Idempotency-Key: only keys are unique.
    idempotency_key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001
    request_digest = models.CharField(max_length=64)
    rebuild_invalid_indexes = models.BooleanField(default=False)
    # NULL without a permit: each permit allows one run.
    permit = models.CharField(max_length=32, null=True, unique=True)  # noqa: DJ001
    phase = models.CharField(max_length=20, blank=True)  # "": all phases
    deferred = models.TextField(blank=True)  # JSON: steps that are not in the phase
    # JSON: required approvals; "": none
    approval_requirement = models.TextField(blank=True)
    # The partial run that is resolved when this one starts; "": none.
    resumes = models.CharField(max_length=32, blank=True)
    waiting_reason = models.CharField(max_length=40, blank=True)
    waiting_until = models.CharField(max_length=32, blank=True)
    waiting_facts = models.TextField(blank=True)  # JSON: such as blockers and attempts
    control_request = models.CharField(max_length=20, blank=True)  # what a user requested
    not_before = models.CharField(max_length=32, blank=True)  # earliest start; "": now
    override_schedule = models.BooleanField(default=False)  # ignore windows and freezes
    claimed_by = models.CharField(max_length=32, blank=True)  # fencing token; "": unclaimed
    host = AnyCharField(max_length=200, blank=True)
    supervisor_pid = models.BigIntegerField(null=True)
    worker_pid = models.BigIntegerField(null=True)
    created_at = models.CharField(_("created"), max_length=32)
    started_at = models.CharField(max_length=32, blank=True)
    finished_at = models.CharField(max_length=32, blank=True)
    heartbeat_at = models.CharField(max_length=32)
    last_event = models.BigIntegerField(default=0)

    objects = UncachedManager()

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
            (Scope.OPERATE.value, _("Can cancel, pause and resume runs")),
            (Scope.APPROVE.value, _("Can approve plans")),
            (Scope.FORCE.value, _("Can force runs to stop")),
            (Scope.RESOLVE.value, _("Can resolve partially applied runs")),
        )

    def __str__(self) -> str:
        return f"{self.database} {self.id} {self.state}"
