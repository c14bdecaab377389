"""`knowledged doctor`: looks at settings and database as the server would meet them.

Exit codes: 0 nothing is wrong; 1 something is, and is marked FAULT; 2 it could not look.
"""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum

from knowledged import migrate
from knowledged.commands.opened_database import opened_database
from knowledged.connection import Connection
from knowledged.pgvector_release import is_recommended, is_sound
from knowledged.settings import Settings, unknown_variables
from knowledged.store import role_rights, versions

HELP = "check settings, versions and the rights of the serving role"

_OLDEST_POSTGRESQL = 16
_SERVING = "knowledge_server"
_MOST_NAMED = 5


class Verdict(StrEnum):
    OK = "ok"
    LOOK = "look"
    """It works, and might be better."""
    FAULT = "FAULT"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    subject: str
    verdict: Verdict
    what: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No options: it looks at the settings of the environment."""
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def run(arguments: argparse.Namespace, settings: Settings) -> int:
    findings = [*_of_settings(settings), *asyncio.run(_of_database(settings))]
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        print(f"{finding.subject:<{width}}  {finding.verdict:<5}  {finding.what}")
    return int(any(finding.verdict is Verdict.FAULT for finding in findings))


def _of_settings(settings: Settings) -> Iterator[Finding]:
    for line in unknown_variables(os.environ):
        yield Finding("settings", Verdict.FAULT, line)
    if not settings.embedded and settings.secret_key_file is None:
        yield Finding("root secret", Verdict.FAULT, "KNOWLEDGED_SECRET_KEY_FILE is not set")
    yield _asked("callers", settings.auth == "token", "by token", "anybody on this machine")
    tls = settings.tls_cert_file is not None
    yield _asked("transport", tls, "TLS", "plaintext: keep it behind a proxy, or on this machine")
    signs = settings.embedded or settings.audit_key_file is not None
    unsigned = "no KNOWLEDGED_AUDIT_KEY_FILE: nothing is signed, and nothing is pruned"
    yield _asked("checkpoints", signs, "signed", unsigned)
    outside = settings.audit_checkpoint_folder or settings.audit_checkpoint_url
    yield _asked("checkpoints", bool(outside), "kept outside", "only in the log stream")


def _asked(subject: str, good: bool, what: str, otherwise: str) -> Finding:
    return Finding(subject, Verdict.OK if good else Verdict.LOOK, what if good else otherwise)


async def _of_database(settings: Settings) -> list[Finding]:
    async with opened_database(settings) as database, database.read() as conn:
        found = [_pgvector(await versions.pgvector(conn)), await _schema(conn)]
        return found + [finding async for finding in _role(conn)]


def _pgvector(release: str) -> Finding:
    if not is_sound(release):
        what = f"{release or 'missing'}: vacuum can corrupt its indexes; 0.8.6 is recommended"
        return Finding("pgvector", Verdict.FAULT, what)
    return _asked("pgvector", is_recommended(release), release, f"{release}; 0.8.6 is recommended")


async def _schema(conn: Connection) -> Finding:
    applied, latest = await migrate.schema_version(conn), migrate.latest_version()
    verdict = Verdict.OK if applied == latest else Verdict.FAULT
    return Finding("schema", verdict, f"version {applied}; this release needs {latest}")


async def _role(conn: Connection) -> AsyncIterator[Finding]:
    role = await role_rights.role(conn)
    if role is None:
        return
    major = role.postgresql // 10_000
    new_enough = Verdict.OK if major >= _OLDEST_POSTGRESQL else Verdict.FAULT
    yield Finding("PostgreSQL", new_enough, f"{major}; {_OLDEST_POSTGRESQL} or newer is needed")
    yield _asked("role", role.name == _SERVING, role.name, f"{role.name} is not {_SERVING}")
    if role.superuser or role.creates:
        yield Finding("role", Verdict.FAULT, "is a superuser, or may create roles or tables")
    planned = role.plan_cache_mode == "force_custom_plan"
    yield _asked("plans", planned, role.plan_cache_mode, f"{role.plan_cache_mode}: slow searches")
    yield _rights("audit log", "cannot be changed", await role_rights.too_much(conn), "may")
    yield _rights("rights", "enough to serve", await role_rights.too_little(conn), "lacks")


def _rights(subject: str, good: str, faults: list[str], verb: str) -> Finding:
    if not faults:
        return Finding(subject, Verdict.OK, good)
    more = f" and {len(faults) - _MOST_NAMED} more" if len(faults) > _MOST_NAMED else ""
    return Finding(subject, Verdict.FAULT, f"{verb} {', '.join(faults[:_MOST_NAMED])}{more}")
