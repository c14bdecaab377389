"""Who may what: the access file, its roles and tokens, reloaded when the file changes.

The file is YAML (`knowledged token` writes its entries):

    subjects:
      - subject: importer@clinic.example
        roles: [writer]
        collections: [guidelines, leaflets]     # or "*" for all
        tokens:
          - {id: k3v9x2ab, salt: <32 hex digits>, hash: <64 hex digits>}

`hash` is SHA-256 over the salt's bytes and the token's ASCII text.
"""

import asyncio
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

import structlog

from knowledged.access_file import AccessFile, AccessFileError, Role, SubjectEntry, parse
from knowledged.call import Principal

_READER = frozenset(
    {"server.info", "collections.read", "documents.read", "chunks.read", "search", "embed"}
)
_WRITER = _READER | {"documents.write", "chunks.write"}
_OPERATOR = frozenset(
    {"server.info", "server.read", "collections.read", "collections.write", "credentials.write"}
)
_AUDITOR = frozenset({"server.info", "server.read", "collections.read", "audit.read", "holds.read"})
# Other services that write their events into our log.
_RECORDER = frozenset({"server.info", "audit.append"})
# What is gone, and what must be kept.
_ADMIN_ALONE = frozenset({"documents.purge", "holds.write", "subjects.erase"})

PERMISSIONS = _WRITER | _OPERATOR | _AUDITOR | _RECORDER | _ADMIN_ALONE
"""Every permission there is; a method that needs another one cannot start the server."""

ROLES: dict[Role, frozenset[str]] = {
    "reader": _READER,
    "writer": _WRITER,
    "auditor": _AUDITOR,
    "operator": _OPERATOR,
    "recorder": _RECORDER,
    "admin": PERMISSIONS,
}

_TOKEN = re.compile("kd_([a-z0-9]{8})_[A-Za-z0-9_-]{43}")


def token_hash(salt: bytes, token: str) -> bytes:
    """SHA-256(salt || token), 32 bytes.

    A slow hash protects passwords, which people choose and others guess. A token is 256 random
    bits: nobody finds it by trying, however fast the hash, and every call has to pay for it.
    """
    return sha256(salt + token.encode("ascii")).digest()


@dataclass(frozen=True, slots=True)
class _Token:
    salt: bytes
    hash: bytes
    principal: Principal


_Signature = tuple[int, int, int] | None


class Access:
    """The access file in memory. Swapped whole: a call sees the old file or the new one."""

    def __init__(self, path: Path) -> None:
        """Reads `path`; raises AccessFileError, which says what is wrong and where."""
        self._path = path
        self._signature = _signature(path)
        self._tokens = _load(path)

    def authenticate(self, token: str) -> Principal | None:
        """Whose token this is; None when it is nobody's."""
        match = _TOKEN.fullmatch(token)
        entry = self._tokens.get(match[1]) if match else None
        if entry is None or not compare_digest(entry.hash, token_hash(entry.salt, token)):
            return None
        return entry.principal

    async def follow(self, poll_seconds: float = 1.0) -> None:
        """Reloads the file whenever it changes; runs until cancelled.

        Polled, not watched: mounted secrets and network folders send no change events.
        """
        while True:
            await asyncio.sleep(poll_seconds)
            await asyncio.to_thread(self.reload)

    def reload(self) -> None:
        """Takes over a changed file; a broken one is logged, and the last good one stays."""
        signature = _signature(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        log = structlog.get_logger()
        try:
            self._tokens = _load(self._path)
        except AccessFileError as error:
            log.error("access_file_rejected", problem=str(error))
        else:
            log.info("access_file_loaded", tokens=len(self._tokens))


def _load(path: Path) -> dict[str, _Token]:
    try:
        text = path.read_text("utf-8")
        readable_by_others = path.stat().st_mode & stat.S_IROTH
    except (OSError, UnicodeDecodeError) as error:
        raise AccessFileError(f"cannot be read: {type(error).__name__}") from error
    if readable_by_others:
        structlog.get_logger().warning("access_file_readable_by_others")
    return _tokens(parse(text))


def _tokens(file: AccessFile) -> dict[str, _Token]:
    return {
        token.id: _Token(bytes.fromhex(token.salt), bytes.fromhex(token.hash), principal)
        for entry, principal in ((entry, _principal(entry)) for entry in file.subjects)
        for token in entry.tokens
    }


def _principal(entry: SubjectEntry) -> Principal:
    permissions = frozenset[str]().union(*(ROLES[role] for role in entry.roles))
    granted = None if entry.collections == "*" else frozenset(entry.collections)
    return Principal(entry.subject, permissions, granted)


def _signature(path: Path) -> _Signature:
    """What changes when the file does, also when it is replaced or a link is turned."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
