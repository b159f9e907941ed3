"""The privileges of a copy: closed to others, and no wider than those of the original."""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

_MINE = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'"
# What PostgreSQL grants to PUBLIC by default (manual, 5.7), and what was revoked. A dump
# without privileges restores the defaults.
_REVOKED = (
    (
        "EXECUTE ON ROUTINE",
        "p.proowner",
        """
SELECT format('%I.%I(%s)', n.nspname, p.proname, (
  SELECT coalesce(
    string_agg(format('%I.%I', m.nspname, t.typname), ', ' ORDER BY a.place), '')
  FROM unnest(p.proargtypes) WITH ORDINALITY AS a (type, place)
  JOIN pg_type t ON t.oid = a.type JOIN pg_namespace m ON m.oid = t.typnamespace))
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE {mine} AND {owned} AND {public} EXISTS (
  SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = 'EXECUTE')
""",
    ),
    (
        "USAGE ON TYPE",
        "t.typowner",
        """
SELECT format('%I.%I', n.nspname, t.typname)
FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
WHERE {mine} AND {owned} AND t.typelem = 0
AND (t.typrelid = 0 OR t.typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c'))
AND t.typtype <> 'm' AND {public} EXISTS (
  SELECT FROM aclexplode(coalesce(t.typacl, acldefault('T', t.typowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = 'USAGE')
""",
    ),
    *(
        (
            f"{privilege} ON SCHEMA",
            "n.nspowner",
            f"""
SELECT format('%I', n.nspname) FROM pg_namespace n
WHERE {{mine}} AND {{owned}} AND {{public}} EXISTS (
  SELECT FROM aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) x
  WHERE x.grantee = 0 AND x.privilege_type = '{privilege}')
""",  # noqa: S608 - words of this module
        )
        for privilege in ("USAGE", "CREATE")
    ),
)


def create_closed(connection: BaseDatabaseWrapper, name: str, creation: str) -> None:
    """Create a database to which, at any time, only its owner can connect.

    `creation` is the statement that creates it. The login user may connect too, where the
    owner is a role that this user has assumed.
    """
    quote = connection.ops.quote_name
    database = quote(name)
    with connection.cursor() as cursor:
        cursor.execute(f"{creation} ALLOW_CONNECTIONS false")
        cursor.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")
        cursor.execute("SELECT session_user, current_user")
        login, owner = cursor.fetchone()
        if login != owner:
            cursor.execute(f"GRANT CONNECT ON DATABASE {database} TO {quote(login)}")
        cursor.execute(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")


def revoke_as_in(original: BaseDatabaseWrapper, copy: BaseDatabaseWrapper) -> None:
    """Revoke from PUBLIC in a copy what PUBLIC does not have in the original."""
    with original.cursor() as reading, copy.cursor() as writing:
        for privilege, owner, query in _REVOKED:
            # In the copy everything has one owner, except perhaps what an extension made.
            reading.execute(query.format(mine=_MINE, owned="true", public="NOT"))
            wanted = {name for (name,) in reading.fetchall()}
            owned = f"pg_has_role({owner}, 'USAGE')"
            writing.execute(query.format(mine=_MINE, owned=owned, public=""))
            granted = {name for (name,) in writing.fetchall()}
            for name in sorted(wanted & granted):
                writing.execute(f"REVOKE {privilege} {name} FROM PUBLIC")
