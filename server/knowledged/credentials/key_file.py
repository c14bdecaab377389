"""The key in a file, followed while we serve: a new one is taken over whole, a bad one is not."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import structlog

from knowledged.credentials.api_key import LONGEST, ApiKey, MalformedKey
from knowledged.credentials.keys import INVALID, Held, Keys, Source

_Signature = tuple[int, int, int] | None


class KeyFile:
    """Polled, not watched: mounted secrets and network folders send no change events."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self._path = path
        self._keys = keys
        self._signature: _Signature | str = ""

    def look(self) -> ApiKey | str | None:
        """The key of a changed file, or what is wrong with it. Blocking; changes no key."""
        signature = _signature(self._path)
        if signature == self._signature:
            return None
        self._signature = signature
        try:
            return ApiKey(self._read())
        except (OSError, ValueError) as error:
            # MalformedKey says a rule and a size; others' texts may hold the file's.
            return str(error) if isinstance(error, MalformedKey) else type(error).__name__

    def take(self, found: ApiKey | str | None) -> None:
        """Takes over what `look` found."""
        match found:
            case ApiKey():
                self._keys.offer(Held(found, Source.FILE, datetime.now(UTC)))
            case str():
                structlog.get_logger().error("provider_key_file_rejected", problem=found)
                self._keys.unusable(Source.FILE, INVALID)
            case None:
                return

    def _read(self) -> str:
        if self._path.stat().st_mode & stat.S_IROTH:
            structlog.get_logger().warning("provider_key_file_readable_by_others")
        with self._path.open("rb") as file:
            return file.read(2 * LONGEST).decode("ascii")


def _signature(path: Path) -> _Signature:
    """What changes when the file does, also when it is replaced or a link is turned."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
