"""Tests that declarations of other packages are understood without importing them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest
from django.db import migrations

from migration_route.core.enums import Phase
from migration_route.planning.phases import declared_by_operation, declared_phase


# As in django-safemigrate 6.0.
class When(Enum):
    """Its three values."""

    ALWAYS = "always"
    BEFORE_DEPLOY = "before_deploy"
    AFTER_DEPLOY = "after_deploy"


@dataclass
class Safe:
    """The declaration of a migration."""

    when: When
    delay: timedelta | None = None

    @classmethod
    def after_deploy(cls, *, delay: timedelta | None = None) -> Safe:
        """Return the declaration "after the deploy"."""
        return cls(when=When.AFTER_DEPLOY, delay=delay)


class OldSafe(Enum):
    """The enum of versions before 5."""

    always = 1
    before_deploy = 2


class Stage(Enum):
    """As in django-syzygy 1.2."""

    PRE_DEPLOY = "pre_deploy"
    POST_DEPLOY = "post_deployment"


def migration(name: str = "0002_x", **attributes):
    """Return a migration with attributes."""
    kind = type("Migration", (migrations.Migration,), attributes)
    return kind(name, "shop")


BEFORE, AFTER, ANY = Phase.BEFORE_DEPLOY, Phase.AFTER_DEPLOY, Phase.ANY


@pytest.mark.parametrize(
    ("attributes", "phase", "source", "delay"),
    [
        ({"phase": "after_deploy"}, AFTER, "phase", 0),
        ({"phase": Phase.BEFORE_DEPLOY}, BEFORE, "phase", 0),
        ({"phase": "any"}, ANY, "phase", 0),
        ({"safe": Safe.after_deploy()}, AFTER, "safe", 0),
        ({"safe": Safe.after_deploy}, AFTER, "safe", 0),
        ({"safe": Safe.after_deploy(delay=timedelta(days=1))}, AFTER, "safe", 86400),
        ({"safe": Safe(when=When.ALWAYS)}, ANY, "safe", 0),
        ({"safe": OldSafe.before_deploy}, BEFORE, "safe", 0),
        ({"stage": Stage.POST_DEPLOY}, AFTER, "stage", 0),
        ({"stage": Stage.PRE_DEPLOY}, BEFORE, "stage", 0),
        ({"stage": "post_deploy"}, AFTER, "stage", 0),
        ({"phase": "any", "safe": Safe.after_deploy()}, ANY, "phase", 0),
    ],
)
def test_what_a_migration_declares(attributes, phase, source, delay):
    """Text, enums and objects are read alike; this package's attribute takes precedence."""
    found = declared_phase(migration(**attributes))
    assert found is not None
    assert (found.phase, found.source, found.delay) == (phase, source, delay)


def test_the_name_of_a_phased_migration_declares_it():
    """The suffix marks a contracting migration."""
    found = declared_phase(migration("0003_drop_name_contract"))
    assert found is not None
    assert (found.phase, found.source) == (AFTER, "_contract")
    assert declared_phase(migration("0003_contract_table")) is None


@pytest.mark.parametrize("attributes", [{}, {"safe": True}, {"stage": 3}, {"safe": "no"}])
def test_attributes_that_mean_something_else_declare_nothing(attributes):
    """Another package may call anything safe."""
    assert declared_phase(migration(**attributes)) is None


def test_our_own_attribute_that_is_no_phase_is_told():
    """A typing error is not ignored."""
    found = declared_phase(migration(phase="after-deploy"))
    assert found is not None
    assert (found.phase, found.text) == (None, "'after-deploy'")


def test_an_operation_declares_its_stage():
    """As syzygy allows."""
    operation: Any = migrations.RunSQL("SELECT 1")  # syzygy adds the attribute
    assert declared_by_operation(operation) is None
    operation.stage = Stage.POST_DEPLOY
    assert declared_by_operation(operation) is AFTER
