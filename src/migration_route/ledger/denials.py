"""How often was a person denied something lately?"""

from __future__ import annotations

import json

from django.db.models import Max

from migration_route.errors import DatabaseUnavailable
from migration_route.ledger.reading import read
from migration_route.models import Entry
from migration_route.vocabulary import Action, ActorKind

_LOOKED_AT = 1000
"""Entries from the end that are looked at: no more than so many rows are read."""


def count_denials(name: str, *, code: str, since: str) -> int:
    """Return how often this person was denied something with this code since then,
    among the last entries; 0 where there is no ledger, or it does not answer."""

    def query(alias: str) -> int:
        entries = Entry.objects.using(alias)
        last = entries.aggregate(last=Max("sequence"))["last"] or 0
        facts = entries.filter(
            sequence__gt=last - _LOOKED_AT,
            action=Action.DENIED,
            actor_kind=ActorKind.PERSON,
            actor_name=name,
            at__gte=since,
        ).values_list("facts", flat=True)
        return sum(json.loads(text).get("code") == code for text in facts)

    try:
        return read(query, empty=0)
    except DatabaseUnavailable:
        return 0
