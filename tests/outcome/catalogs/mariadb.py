"""Reads the schema of MariaDB from information_schema."""

from __future__ import annotations

_HERE = "table_schema = DATABASE()"

QUERIES = {
    "columns": f"""
        SELECT table_name, ordinal_position, column_name, column_type, is_nullable,
               column_default, extra, collation_name, column_comment,
               generation_expression
        FROM information_schema.columns WHERE {_HERE}
    """,
    "tables": f"""
        SELECT table_name, table_type, engine, table_collation, table_comment
        FROM information_schema.tables WHERE {_HERE}
    """,
    "constraints": f"""
        SELECT table_name, constraint_name, constraint_type
        FROM information_schema.table_constraints WHERE {_HERE}
    """,
    "keys": f"""
        SELECT table_name, constraint_name, ordinal_position, column_name,
               referenced_table_name, referenced_column_name
        FROM information_schema.key_column_usage WHERE {_HERE}
    """,
    "references": """
        SELECT table_name, constraint_name, update_rule, delete_rule
        FROM information_schema.referential_constraints
        WHERE constraint_schema = DATABASE()
    """,
    "checks": """
        SELECT table_name, constraint_name, check_clause
        FROM information_schema.check_constraints
        WHERE constraint_schema = DATABASE()
    """,
    "indexes": f"""
        SELECT table_name, index_name, seq_in_index, column_name, non_unique,
               sub_part, index_type, collation
        FROM information_schema.statistics WHERE {_HERE}
    """,
    "views": f"""
        SELECT table_name, REPLACE(view_definition, DATABASE(), '')
        FROM information_schema.views WHERE {_HERE}
    """,
    "triggers": """
        SELECT trigger_name, event_object_table, action_statement
        FROM information_schema.triggers WHERE trigger_schema = DATABASE()
    """,
}
