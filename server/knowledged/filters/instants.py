"""Points in time as filters and metadata write them: RFC 3339, section 5.6."""

import re
from datetime import UTC, datetime

# Read alike by Python and by PostgreSQL, which knows no offset of 16 hours or more.
PATTERN = (
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])"
    r"(?:\.([0-9]{1,6})0*)?([Zz]|[+-](?:0[0-9]|1[0-5]):[0-5][0-9])$"
)
_INSTANT = re.compile(PATTERN)


def instant(text: str) -> datetime | None:
    """The instant in UTC of an RFC 3339 text of microseconds at most, else None."""
    match = None if text.endswith("\n") else _INSTANT.match(text)
    if match is None:
        return None
    day, clock, fraction, offset = match.groups(default="")
    offset = "+00:00" if offset in "Zz" else offset
    try:
        written = datetime.fromisoformat(f"{day}T{clock}.{fraction:0<6}{offset}")
        return written.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
