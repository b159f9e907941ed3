"""Which findings are there, and to which family does each belong? No Django here.

A code never changes its meaning. The folders of `planning/rules/` are the families; what
other engines say has the engine's name before a dot, and that is its family.
"""

from __future__ import annotations

from collections.abc import Mapping

FAMILIES: Mapping[str, frozenset[str]] = {
    "acceptance": frozenset({"bad_acceptance"}),
    "blocking": frozenset(
        {
            "index_blocks_writes",
            "locks_parent",
            "not_null_scans",
            "rewrites_table",
            "scans_table",
            "validates_under_lock",
        }
    ),
    "data_dependent": frozenset(
        {"adds_check", "adds_reference", "adds_unique", "forbids_null"}
    ),
    "destructive": frozenset(
        {"drops_column", "drops_rows", "drops_table", "narrows_column"}
    ),
    "incompatible": frozenset(
        {"adds_required_column", "changes_type", "renames_column", "renames_table"}
    ),
    "irreversible": frozenset({"backwards", "irreversible", "one_way"}),
    "mixed": frozenset({"mixes_data_and_schema"}),
    "non_atomic": frozenset(
        {
            "concurrent_with_others",
            "ddl_commits",
            "not_atomic",
            "several_operations",
            "unprotected_python",
        }
    ),
    "phases": frozenset(
        {
            "before_deploy_pending",
            "mixed_phases",
            "no_safe_phase",
            "overdue",
            "phase_ambiguous",
            "phase_not_understood",
        }
    ),
    "python": frozenset({"forgets_alias", "imports_models"}),
    "surroundings": frozenset(
        {
            "invalid_index",
            "models_changed",
            "other_database",
            "recorder_sequence_behind",
            "steps_not_read",
        }
    ),
}

ENGINES = frozenset({"safe_migrations", "squawk"})
"""Other linters whose findings are taken in: `squawk.ban-drop-column`."""

CODES = frozenset[str]().union(*FAMILIES.values())


def is_known(code: str) -> bool:
    """Tell whether there is such a finding; those of other engines have a dot in them."""
    return code in CODES or "." in code


def family_of(code: str) -> str:
    """Return the family of a finding; "" for one that nobody knows."""
    engine, dot, _ = code.partition(".")
    if dot:
        return engine
    return next((name for name, codes in FAMILIES.items() if code in codes), "")
