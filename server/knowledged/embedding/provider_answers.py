"""What a provider's failure means: from status, headers and body to one of our causes.

As Hugging Face's router and Hub answer, and text-embeddings-inference (TEI) does. What they say is
looked at and never passed on.
"""

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx2
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import parse_ratelimit_headers

from knowledged.embedding.provider_faults import (
    BAD_TEXT,
    DOWN,
    EXPIRED,
    GATED,
    GONE,
    INVALID,
    LIMITED,
    LOADING,
    NO_PERMISSION,
    NO_VECTORS,
    NOT_FOUND,
    OVER_QUOTA,
    SLOW,
    Cause,
)
from knowledged.errors import DomainError

LONGEST_RETRY_AFTER_SECONDS = 300.0
_READ_CHARACTERS = 2_000
_ESTIMATED = re.compile(r'"estimated_time"\s*:\s*([0-9.]+)')


def fault_of(error: Exception) -> DomainError:
    """Our error for what the client library raised."""
    match error:
        case HfHubHTTPError():
            return _of_response(error.response)
        case TimeoutError() | httpx2.TimeoutException():
            return SLOW.error()
        case httpx2.HTTPError() | OSError():
            return DOWN.error()
        case _:
            return NO_VECTORS.error()


def _of_response(response: httpx2.Response) -> DomainError:
    said = _said(response)
    cause = _cause(response.status_code, response.headers.get("x-error-code", ""), said)
    return cause.error(_retry_after(response.headers, said))


# By status, where what is said makes no difference.
_BY_STATUS = {
    401: INVALID,
    402: OVER_QUOTA,
    403: NO_PERMISSION,
    404: NOT_FOUND,
    408: DOWN,
    410: GONE,
    424: DOWN,
    425: DOWN,
    429: LIMITED,
}
# By status and a word that is said, before the former.
_BY_WORD = (
    (401, "gated repo", GATED),
    (403, "gated repo", GATED),
    (401, "expired", EXPIRED),
    (400, "not supported by provider", NOT_FOUND),
    (503, "loading", LOADING),
)


def _cause(status: int, code: str, said: str) -> Cause:
    if code == "GatedRepo":
        return GATED
    for known, word, cause in _BY_WORD:
        if status == known and word in said:
            return cause
    return _BY_STATUS.get(status, DOWN if status >= 500 else BAD_TEXT)


def _said(response: httpx2.Response) -> str:
    try:
        body = response.text[:_READ_CHARACTERS]
    except (httpx2.ResponseNotRead, httpx2.StreamError, UnicodeError):
        body = ""
    return f"{response.headers.get('x-error-message', '')} {body}".lower()


def _retry_after(headers: httpx2.Headers, said: str) -> float | None:
    """Seconds to wait: by Retry-After, the reset of a rate limit, or an estimate."""
    told = _seconds(headers.get("retry-after", ""))
    if told is None and (limit := parse_ratelimit_headers(headers)) and not limit.remaining:
        told = float(limit.reset_in_seconds)
    if told is None and (estimated := _ESTIMATED.search(said)):
        told = float(estimated[1])
    return None if told is None else min(max(told, 0.0), LONGEST_RETRY_AFTER_SECONDS)


def _seconds(header: str) -> float | None:
    """Both forms of RFC 9110: a number of seconds, or a date."""
    if header.strip().isdigit():
        return float(header)
    try:
        return (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
