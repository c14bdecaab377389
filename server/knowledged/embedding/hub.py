"""Models of the Hugging Face Hub, to be run on this machine: fetched once, then in the cache.

`huggingface_hub` keeps the cache (HF_HOME), and asks nobody when HF_HUB_OFFLINE is set.
"""

from pathlib import Path

import httpx2
from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from knowledged.credentials.api_key import ApiKey
from knowledged.embedding import model_folder
from knowledged.embedding.model_files import ModelFiles
from knowledged.errors import Unavailable


def locate(model_id: str, revision: str | None, key: ApiKey | None, hub_url: str) -> ModelFiles:
    """The files of a model on the Hub. Blocking; without the network the cached ones.

    Raises Unavailable, saying what to do.
    """
    disable_progress_bars()
    try:
        folder = snapshot_download(
            model_id,
            revision=revision,
            allow_patterns=list(model_folder.FILES),
            # False, not None: never a token that this machine's user has lying about.
            token=key.reveal() if key else False,
            endpoint=hub_url,
        )
    except (OSError, ValueError, httpx2.HTTPError) as error:
        raise Unavailable(f"{model_id}: {_why(error)}", reason="MODEL_UNAVAILABLE") from None
    return model_folder.locate(Path(folder), model_id)


# The first that fits: a gated model counts as missing, too.
_REASONS: tuple[tuple[tuple[type[Exception], ...], str], ...] = (
    ((GatedRepoError,), "is gated; ask for access on its page, and set HUGGING_FACE_API_KEY"),
    ((RepositoryNotFoundError,), "the Hub has no such model, or the key may not see it"),
    ((RevisionNotFoundError,), "the model has no such revision"),
    ((HfHubHTTPError,), "the Hub refuses to give it; look at the key"),
    (
        (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError),
        "the Hub is not reached, and the model is not in the cache (HF_HOME)",
    ),
    ((ValueError,), 'is no id of a model, which is "organisation/name"'),
)


def _why(error: Exception) -> str:
    found = (reason for kinds, reason in _REASONS if isinstance(error, kinds))
    return next(found, f"cannot be fetched: {type(error).__name__}")
