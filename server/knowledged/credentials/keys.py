"""Which key of a provider is used: the best source's, unless it is refused and another is good."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from knowledged.credentials.api_key import ApiKey
from knowledged.errors import Code
from knowledged.notices import Notice, Notices

INVALID, REVOKED = "PROVIDER_CREDENTIAL_INVALID", "PROVIDER_CREDENTIAL_REVOKED"


class Source(IntEnum):
    """Where a key comes from; the lower number goes first. Numbers are those of the proto."""

    STORED = 1
    FILE = 2
    ENVIRONMENT = 3


@dataclass(frozen=True, slots=True)
class Held:
    """A key with its source and since when it is there; `revision` of the stored row, else 0."""

    key: ApiKey
    source: Source
    since: datetime
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the provider said with a key: nothing against it, or a reason.

    `refused`: the reason is the key's own, so that another key would do.
    """

    at: datetime
    reason: str = ""
    refused: bool = False


class Keys:
    """The keys of one provider on this replica. What is refused never pushes out what is good."""

    def __init__(self, provider: str, notices: Notices) -> None:
        self.provider = provider
        self._notices = notices
        self._offered: dict[Source, Held] = {}
        self._outcomes: dict[str, Outcome] = {}
        self._unusable: dict[Source, str] = {}
        self._good: Held | None = None
        self._used = ""

    @property
    def current(self) -> Held | None:
        """The key to use. A new one that the provider refuses leaves the last good one in use."""
        first = min(self._offered.values(), key=lambda held: held.source, default=None)
        if first is None or self._good is None or not self._is_refused(first):
            return first
        return self._good

    @property
    def refused_candidate(self) -> Held | None:
        """The key that would be used if the provider had not refused it; None if there is none."""
        first = min(self._offered.values(), key=lambda held: held.source, default=None)
        return first if first is not None and first != self.current else None

    @property
    def outcome(self) -> Outcome | None:
        """What the provider last said of the current key; None before it was asked."""
        held = self.current
        return self._outcomes.get(held.key.fingerprint) if held else None

    @property
    def rejected_reason(self) -> str:
        """Why a key that goes before the current one is not used; empty if there is none."""
        held = self.current
        for source in Source:
            if held is not None and source > held.source:
                return ""
            if source in self._unusable:
                return self._unusable[source]
            offered = self._offered.get(source)
            if offered and held and offered.key != held.key:
                return self._outcomes[offered.key.fingerprint].reason
        return ""

    def offer(self, held: Held) -> None:
        """A source's new key: in use from now on if no better source has one."""
        self._offered[held.source] = held
        self._unusable.pop(held.source, None)
        self._note_use()

    def withdraw(self, source: Source) -> None:
        """A source has no key any more, and its last good one must not be used either."""
        self._offered.pop(source, None)
        self._unusable.pop(source, None)
        if self._good is not None and self._good.source is source:
            self._good = None
        self._note_use()

    def unusable(self, source: Source, reason: str) -> None:
        """A source's new key cannot be used at all, so its former one stays."""
        if self._unusable.get(source) != reason:
            self._unusable[source] = reason
            self._note("credentials.reject", "", reason)

    def accepted(self, held: Held) -> None:
        """The provider took it."""
        self._outcomes[held.key.fingerprint] = Outcome(datetime.now(UTC))
        current = self.current
        if current is not None and current.key == held.key:
            self._good = current
        self._note_use()

    def checked(self, held: Held, reason: str) -> None:
        """The provider was asked with it; the reason, if any, is not the key's."""
        if not reason:
            self.accepted(held)
        else:
            self._outcomes[held.key.fingerprint] = Outcome(datetime.now(UTC), reason)

    def refused(self, held: Held, reason: str) -> str:
        """The provider did not take it; the reason, seen from what we know of the key."""
        fingerprint = held.key.fingerprint
        if reason == INVALID and self._was_good(held):
            reason = REVOKED
        known = self._outcomes.get(fingerprint)
        self._outcomes[fingerprint] = Outcome(datetime.now(UTC), reason, refused=True)
        # A former key that comes back late is no news.
        offered = any(each.key == held.key for each in self._offered.values())
        if offered and (known is None or known.reason != reason):
            self._note("credentials.reject", fingerprint, reason)
        self._note_use()
        return reason

    def _was_good(self, held: Held) -> bool:
        known = self._outcomes.get(held.key.fingerprint)
        good = self._good is not None and self._good.key == held.key
        return good or (known is not None and (not known.refused or known.reason == REVOKED))

    def _is_refused(self, held: Held) -> bool:
        known = self._outcomes.get(held.key.fingerprint)
        return known is not None and known.refused

    def _note_use(self) -> None:
        held = self.current
        fingerprint = held.key.fingerprint if held else ""
        if fingerprint != self._used:
            self._used = fingerprint
            self._note("credentials.use", fingerprint, "")

    def _note(self, action: str, fingerprint: str, reason: str) -> None:
        keys = (f"keys/{fingerprint}",) if fingerprint else ()
        code = Code.FAILED_PRECONDITION if reason else Code.OK
        self._notices.note(Notice(action, (f"providers/{self.provider}", *keys), code, reason))
