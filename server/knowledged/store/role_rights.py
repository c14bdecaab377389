"""What the role that we are in the database may do, against what a serving role should."""

from dataclasses import dataclass
from typing import LiteralString

from knowledged.database import Connection


@dataclass(frozen=True, slots=True)
class Role:
    """The role of this session: its name, whether it may do anything, and how it plans searches;
    and the release of the database, such as 180006."""

    name: str
    superuser: bool
    creates: bool
    plan_cache_mode: str
    postgresql: int


ROLE: LiteralString = """
    select current_user::text as name, r.rolsuper as superuser,
           r.rolcreaterole or has_schema_privilege(n.oid, 'CREATE') as creates,
           current_setting('plan_cache_mode') as plan_cache_mode,
           current_setting('server_version_num')::int as postgresql
      from pg_roles r
     cross join pg_namespace n
     where r.rolname = current_user and n.nspname = 'knowledge'
"""


async def role(conn: Connection) -> Role | None:
    """Who we are; None in a database without our schema."""
    row = await conn.fetchrow(ROLE)
    return Role(*row.values()) if row else None


# Partitions too: rights on a parent say nothing of them.
TOO_MUCH: LiteralString = """
    select p.privilege || ' on ' || c.relname as excess
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     cross join unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) p (privilege)
     where n.nspname = 'knowledge'
       and c.relkind in ('r', 'p')
       and c.relname ~ '^audit_(event|payload|leaf|checkpoint)'
       and has_table_privilege(c.oid, p.privilege)
     order by c.relname, p.privilege
"""

TOO_LITTLE: LiteralString = """
    select p.privilege || ' on ' || c.relname as lack
      from pg_class c
      join pg_namespace n on n.oid = c.relnamespace
     cross join unnest(array['SELECT', 'INSERT']) p (privilege)
     where n.nspname = 'knowledge'
       and c.relkind in ('r', 'p')
       and not c.relispartition
       -- What the owner alone fills.
       and not (p.privilege = 'INSERT'
                and c.relname ~ '^(audit_state|schema_migration|lexeme_.*)$')
       and not has_table_privilege(c.oid, p.privilege)
     order by c.relname, p.privilege
"""


async def too_much(conn: Connection) -> list[str]:
    """Rights by which this role could change or remove audit events, as `DELETE on audit_event`."""
    return [row["excess"] for row in await conn.fetch(TOO_MUCH)]


async def too_little(conn: Connection) -> list[str]:
    """Rights that serving needs and this role has not."""
    return [row["lack"] for row in await conn.fetch(TOO_LITTLE)]
