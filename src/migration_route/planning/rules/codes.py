"""Which findings are there? A code never changes its meaning."""

from __future__ import annotations

CODES = frozenset(
    {
        "adds_check",
        "adds_reference",
        "adds_required_column",
        "adds_unique",
        "backwards",
        "bad_acceptance",
        "before_deploy_pending",
        "changes_type",
        "concurrent_with_others",
        "ddl_commits",
        "drops_column",
        "drops_rows",
        "drops_table",
        "forbids_null",
        "forgets_alias",
        "imports_models",
        "index_blocks_writes",
        "invalid_index",
        "irreversible",
        "locks_parent",
        "mixed_phases",
        "mixes_data_and_schema",
        "models_changed",
        "narrows_column",
        "no_safe_phase",
        "not_atomic",
        "not_null_scans",
        "one_way",
        "other_database",
        "overdue",
        "phase_ambiguous",
        "phase_not_understood",
        "recorder_sequence_behind",
        "renames_column",
        "renames_table",
        "rewrites_table",
        "scans_table",
        "several_operations",
        "steps_not_read",
        "unprotected_python",
        "validates_under_lock",
    }
)


def is_known(code: str) -> bool:
    """Tell whether there is such a finding; those of other engines have a dot in them."""
    return code in CODES or "." in code
