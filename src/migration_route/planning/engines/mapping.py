"""Which remarks of other linters does the route make itself, and which are left out?"""

from __future__ import annotations

SAID_BY_OURS = {
    "safe_migrations.SM001": "adds_required_column",
    "safe_migrations.SM002": "drops_column",
    "safe_migrations.SM003": "drops_table",
    "safe_migrations.SM004": "changes_type",
    "safe_migrations.SM005": "adds_reference",
    "safe_migrations.SM006": "renames_column",
    "safe_migrations.SM007": "one_way",
    "safe_migrations.SM009": "adds_unique",
    "safe_migrations.SM010": "index_blocks_writes",
    "safe_migrations.SM011": "adds_unique",
    "safe_migrations.SM013": "narrows_column",
    "safe_migrations.SM014": "renames_table",
    "safe_migrations.SM016": "one_way",
    "safe_migrations.SM017": "adds_check",
    "safe_migrations.SM020": "forbids_null",
    "safe_migrations.SM021": "adds_unique",
    "safe_migrations.SM037": "imports_models",
    "safe_migrations.SM038": "mixes_data_and_schema",
    "safe_migrations.SM041": "rewrites_table",
    "safe_migrations.SM047": "validates_under_lock",
    "safe_migrations.SM048": "drops_rows",
    "safe_migrations.SM056": "adds_check",
    "squawk.adding-foreign-key-constraint": "locks_parent",
    "squawk.adding-not-nullable-field": "forbids_null",
    "squawk.adding-required-field": "adds_required_column",
    "squawk.ban-drop-column": "drops_column",
    "squawk.ban-drop-table": "drops_table",
    "squawk.ban-truncate-cascade": "drops_rows",
    "squawk.changing-column-type": "changes_type",
    "squawk.constraint-missing-not-valid": "validates_under_lock",
    "squawk.disallowed-unique-constraint": "adds_unique",
    "squawk.renaming-column": "renames_column",
    "squawk.renaming-table": "renames_table",
    "squawk.require-concurrent-index-creation": "index_blocks_writes",
}
"""A rule to the finding that covers its ground. Where the finding is not made, the route
has looked and seen no harm: the table is new, or the column was NOT NULL before."""

LEFT_OUT = frozenset(
    {
        "safe_migrations.SM008",  # "a data migration may be slow": said of each
        "safe_migrations.SM015",  # unique_together is not deprecated
        "safe_migrations.SM019",  # names that Django quotes
        "safe_migrations.SM023",  # a new table harms nobody
        "safe_migrations.SM027",  # the route refuses a plan with several leaves
        "safe_migrations.SM028",  # taste: the types of columns
        "safe_migrations.SM029",  # allowing NULL harms nobody
        "safe_migrations.SM030",  # DROP INDEX is over in an instant
        "safe_migrations.SM031",  # taste
        "safe_migrations.SM032",  # taste
        "safe_migrations.SM033",  # wrong since PostgreSQL 11: a default rewrites nothing
        "safe_migrations.SM034",  # taste, and Django has used IDENTITY since 4.1
        "safe_migrations.SM035",  # the worker has a lock_timeout of its own
        "safe_migrations.SM036",  # IF NOT EXISTS hides a table that is not the right one
        "safe_migrations.SM054",  # each of the operations is told by itself
        "squawk.ban-drop-constraint",  # loosens
        "squawk.ban-drop-default",  # what Django does behind each AddField
        "squawk.ban-drop-not-null",  # loosens
        "squawk.prefer-bigint-over-int",  # taste
        "squawk.prefer-bigint-over-smallint",  # taste
        "squawk.prefer-identity",  # taste
        "squawk.prefer-robust-stmts",  # see SM036
        "squawk.prefer-text-field",  # taste
        "squawk.prefer-timestamptz",  # taste
        "squawk.require-concurrent-index-deletion",  # see SM030
        "squawk.require-lock-timeout",  # the worker has one of its own
        "squawk.require-statement-timeout",  # would kill a long backfill
    }
)
"""Rules that are wrong here, or said of nearly everything: seen on published projects."""
