"""The ways to resolve a partial run, as the page of the run offers them."""

from __future__ import annotations

from dataclasses import dataclass

from migration_route.core.enums import Resolution
from migration_route.services.resolve import ResolutionOptions

_TITLES = {
    Resolution.APPLIED: "Mark as applied",
    Resolution.REVERTED: "Mark as not applied",
    Resolution.CONTINUE: "Continue in a new run",
    Resolution.AS_IS: "Fixed manually",
}
_CONSEQUENCES = {
    Resolution.APPLIED: (
        "The step is recorded in django_migrations as applied, after a check against the "
        "schema."
    ),
    Resolution.REVERTED: (
        "The step is recorded in django_migrations as not applied, after a check against "
        "the schema."
    ),
    Resolution.CONTINUE: (
        "A new run starts after the last completed operation and applies the rest."
    ),
    Resolution.AS_IS: "Nothing is written: the next plan starts from django_migrations.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionChoice:
    """One way to resolve a run."""

    how: Resolution
    title: str
    consequence: str
    impossible: str  # why it would be refused; "": it is possible
    is_suggested: bool


def resolution_choices(
    options: ResolutionOptions, suggested: Resolution
) -> list[ResolutionChoice]:
    """Return the ways to resolve a run; one that is possible is suggested."""
    if suggested in options.impossible:
        suggested = Resolution.AS_IS
    return [
        ResolutionChoice(
            how=how,
            title=title,
            consequence=_CONSEQUENCES[how],
            impossible=options.impossible.get(how, ""),
            is_suggested=how is suggested,
        )
        for how, title in _TITLES.items()
    ]
