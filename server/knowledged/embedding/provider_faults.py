"""What can be wrong at a provider: each cause with its kind, its reason, and what to do.

Time heals what is Away. What Refuses waits for somebody to act. A refused text tells nothing of the
provider.
"""

from dataclasses import dataclass

from knowledged.errors import DomainError, Unavailable, WrongState


class ProviderAway(Unavailable):
    """The provider does not answer now; the same request may do later.

    `asked` says that `retry_after_seconds` is the provider's own wish.
    """

    reason = "PROVIDER_UNAVAILABLE"
    asked = False


class ProviderRefuses(WrongState):
    """The provider answers, and will not serve us until somebody changes something."""

    reason = "PROVIDER_CREDENTIAL_MISSING"


class TextRefused(WrongState):
    """The provider serves us, but not this text."""

    reason = "PROVIDER_TEXT_REFUSED"


@dataclass(frozen=True, slots=True)
class Cause:
    """A cause: the error's class, its reason, and what its reader can do."""

    kind: type[DomainError]
    reason: str
    advice: str

    def error(self, retry_after_seconds: float | None = None) -> DomainError:
        error = self.kind(self.advice, reason=self.reason)
        if retry_after_seconds is not None and isinstance(error, ProviderAway):
            error.retry_after_seconds, error.asked = retry_after_seconds, True
        return error


MISSING = Cause(
    ProviderRefuses,
    "PROVIDER_CREDENTIAL_MISSING",
    "the provider needs a key and none is set; set HUGGING_FACE_API_KEY, its file, or use"
    " `knowledged credential set`",
)
INVALID = Cause(
    ProviderRefuses,
    "PROVIDER_CREDENTIAL_INVALID",
    "the provider does not know the key; make a new one and set it",
)
EXPIRED = Cause(
    ProviderRefuses,
    "PROVIDER_CREDENTIAL_EXPIRED",
    "the provider's key has expired; make a new one and set it",
)
REVOKED = Cause(
    ProviderRefuses,
    "PROVIDER_CREDENTIAL_REVOKED",
    "the provider refuses a key that it took before, so it was revoked; make a new one and set it",
)
NO_PERMISSION = Cause(
    ProviderRefuses,
    "PROVIDER_PERMISSION_MISSING",
    "the provider's key may not be used for inference; give it the permission to call Inference"
    " Providers",
)
GATED = Cause(
    ProviderRefuses,
    "PROVIDER_MODEL_GATED",
    "the model is gated; ask for access on its page with the account of the key",
)
NOT_FOUND = Cause(
    ProviderRefuses,
    "PROVIDER_MODEL_NOT_FOUND",
    "the provider does not serve the model; check KNOWLEDGED_HUGGING_FACE_MODELS",
)
MISMATCH = Cause(
    ProviderRefuses,
    "PROVIDER_MODEL_MISMATCH",
    "the provider serves another model than configured (id, revision or dimension); check"
    " KNOWLEDGED_HUGGING_FACE_MODELS",
)
OVER_QUOTA = Cause(
    ProviderRefuses,
    "PROVIDER_QUOTA_EXHAUSTED",
    "the credits of the provider's account are used up; buy more, or wait for the next month",
)
GONE = Cause(
    ProviderRefuses,
    "PROVIDER_ENDPOINT_GONE",
    "the provider has given up this address; check KNOWLEDGED_HUGGING_FACE_URL and"
    " KNOWLEDGED_HUGGING_FACE_ROUTER_URL",
)
NO_VECTORS = Cause(
    ProviderRefuses,
    "PROVIDER_ANSWER_INVALID",
    "the provider's answer is not one finite vector for each text; check that the address leads to"
    " an embedding model",
)
LIMITED = Cause(
    ProviderAway,
    "PROVIDER_RATE_LIMITED",
    "the provider takes no more requests for now; it is tried again",
)
LOADING = Cause(
    ProviderAway,
    "PROVIDER_MODEL_LOADING",
    "the provider is loading the model; it is tried again",
)
DOWN = Cause(
    ProviderAway,
    "PROVIDER_UNAVAILABLE",
    "the provider does not answer or fails; it is tried again",
)
SLOW = Cause(
    ProviderAway,
    "PROVIDER_TIMEOUT",
    "the provider did not answer in time; it is tried again",
)
BAD_TEXT = Cause(
    TextRefused,
    "PROVIDER_TEXT_REFUSED",
    "the provider does not take the text; it may be too long for the model",
)

CAUSES = (
    MISSING,
    INVALID,
    EXPIRED,
    REVOKED,
    NO_PERMISSION,
    GATED,
    NOT_FOUND,
    MISMATCH,
    OVER_QUOTA,
    GONE,
    NO_VECTORS,
    LIMITED,
    LOADING,
    DOWN,
    SLOW,
    BAD_TEXT,
)

OF_THE_KEY = {INVALID.reason, EXPIRED.reason, REVOKED.reason, NO_PERMISSION.reason}
"""Reasons that are the key's, so that another key may do."""


def cause_of(reason: str) -> Cause:
    return next(cause for cause in CAUSES if cause.reason == reason)
