"""Text columns of the ledger that take every text, in any encoding of the database."""

from __future__ import annotations

from typing import Any

from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper

from migration_route.vendors.encodings import storable


def stored_words(
    model: type[models.Model], alias: str, words: dict[str, str]
) -> dict[str, Any]:
    """Return the values of `AnyText` fields as the database will give them back, so that a
    digest covers exactly what is stored."""
    fields: dict[str, Any] = {name: model._meta.get_field(name) for name in words}
    return {
        name: fields[name].stored(text, connections[alias]) for name, text in words.items()
    }


class AnyText:
    """A text field that escapes what the database cannot store."""

    max_length: int | None

    def stored(self, value: Any, connection: BaseDatabaseWrapper) -> Any:
        """Return a value as the database keeps it: a longer one is cut."""
        if not isinstance(value, str):
            return value
        return storable(connection, value)[: self.max_length]

    def get_db_prep_value(
        self,
        value: Any,
        connection: BaseDatabaseWrapper,
        prepared: bool = False,  # noqa: FBT001, FBT002 - Django calls it so
    ) -> Any:
        """Escape what is written, and what it is compared with."""
        found = super().get_db_prep_value(value, connection, prepared)  # type: ignore[misc]
        return self.stored(found, connection)

    def deconstruct(self) -> tuple[str, str, list[Any], dict[str, Any]]:
        """Be the field of Django in migrations: the column is the same."""
        name, path, args, kwargs = super().deconstruct()  # type: ignore[misc]
        return name, path.replace(f"{__name__}.Any", "django.db.models."), args, kwargs


class AnyCharField(AnyText, models.CharField):  # type: ignore[type-arg]
    """A short text."""


class AnyTextField(AnyText, models.TextField):  # type: ignore[type-arg]
    """A text of any length."""
