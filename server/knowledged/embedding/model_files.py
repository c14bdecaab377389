"""The files of one model on this machine, and whether they are the ones we mean."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from knowledged.errors import Unavailable

Pooling: TypeAlias = Literal["mean", "cls"]
"""How a text's vector is made of those of its tokens: their mean, or the first one's."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """An ONNX sentence transformer and its tokenizer.json, with the sha256 each must have (hex).

    `max_length` is in tokens and counts the special ones.
    """

    model_id: str
    model: Path
    model_sha256: str
    tokenizer: Path
    tokenizer_sha256: str
    max_length: int
    pooling: Pooling = "mean"

    def verify(self) -> None:
        """Read both files once. Raises Unavailable when one is missing or has another hash."""
        _verify(self.model, self.model_sha256, f"model {self.model_id}")
        _verify(self.tokenizer, self.tokenizer_sha256, f"tokenizer of model {self.model_id}")


def _verify(path: Path, sha256: str, name: str) -> None:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"the {name} cannot be read", reason="MODEL_UNAVAILABLE") from error
    if found != sha256:
        raise Unavailable(
            f"the {name} has sha256 {found}, not {sha256}", reason="MODEL_UNAVAILABLE"
        )
