"""Reads the schema of PostgreSQL from information_schema and, for the rest, pg_catalog."""

from __future__ import annotations

_OURS = "= 'public'::regnamespace"

QUERIES = {
    "columns": """
        SELECT table_name,
               -- a column that is gone keeps its number: the order is what counts
               rank() OVER (PARTITION BY table_name ORDER BY ordinal_position),
               column_name, data_type, udt_name,
               character_maximum_length, numeric_precision, numeric_scale,
               is_nullable, column_default, is_identity, identity_generation,
               is_generated, generation_expression, collation_name
        FROM information_schema.columns WHERE table_schema = 'public'
    """,
    "tables": f"""
        SELECT relname, relkind, relpersistence, relrowsecurity, reloptions::text
        FROM pg_class WHERE relnamespace {_OURS}
    """,
    "constraints": f"""
        SELECT conrelid::regclass::text, conname, contype, convalidated,
               pg_get_constraintdef(oid)
        FROM pg_constraint WHERE connamespace {_OURS}
    """,
    "indexes": f"""
        SELECT indrelid::regclass::text, relname, indisvalid, indisready,
               pg_get_indexdef(indexrelid)
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE relnamespace {_OURS}
    """,
    "sequences": """
        SELECT sequencename, data_type::text, start_value, increment_by, cycle
        FROM pg_sequences WHERE schemaname = 'public'
    """,
    "views": "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "triggers": """
        SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
    """,
    "functions": f"SELECT proname, prosrc FROM pg_proc WHERE pronamespace {_OURS}",
    "comments": f"""
        SELECT relname, objsubid, description
        FROM pg_description JOIN pg_class ON pg_class.oid = objoid
        WHERE classoid = 'pg_class'::regclass AND relnamespace {_OURS}
    """,
    "extensions": "SELECT extname FROM pg_extension",
}
