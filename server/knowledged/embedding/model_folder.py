"""A sentence transformer in a folder, as the Hub lays it out: its ONNX file, and how to use it."""

import hashlib
import json
from pathlib import Path
from typing import Any, cast

from knowledged.embedding.model_files import ModelFiles, Pooling
from knowledged.errors import Unavailable

# In this order; a folder needs one of them, and may have its weights in a second file beside it.
ONNX_FILES = ("onnx/model.onnx", "model.onnx")
FILES = (
    *ONNX_FILES,
    *(f"{name}_data" for name in ONNX_FILES),
    "tokenizer.json",
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
)
DEFAULT_LENGTH, LONGEST = 512, 8_192


def locate(folder: Path, model_id: str) -> ModelFiles:
    """The files of the model in `folder`; its digest is over the ONNX file and its weights.

    Raises Unavailable, saying what is missing or of no use.
    """
    model = next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None)
    tokenizer = folder / "tokenizer.json"
    if model is None or not tokenizer.is_file():
        what = " or ".join(ONNX_FILES) if model is None else "tokenizer.json"
        raise _useless(model_id, f"has no {what}")
    return ModelFiles(
        model_id=model_id,
        model=model,
        model_sha256=_digest(model, model.with_name(f"{model.name}_data")),
        tokenizer=tokenizer,
        tokenizer_sha256=_digest(tokenizer),
        max_length=_max_length(folder),
        pooling=_pooling(folder, model_id),
    )


def _max_length(folder: Path) -> int:
    sentence = _json(folder / "sentence_bert_config.json").get("max_seq_length")
    tokens = _json(folder / "tokenizer_config.json").get("model_max_length")
    # Where it is not known, tokenizers write a number of thirty digits.
    told = (int(each) for each in (sentence, tokens) if each and 0 < int(each) <= 2**20)
    return min(next(told, DEFAULT_LENGTH), LONGEST)


def _pooling(folder: Path, model_id: str) -> Pooling:
    """How token vectors become one; another way than the model's own makes useless vectors."""
    told = _json(folder / "1_Pooling/config.json")
    modes = [name for name, on in told.items() if name.startswith("pooling_mode_") and on is True]
    match modes:
        case [] | ["pooling_mode_mean_tokens"]:
            return "mean"
        case ["pooling_mode_cls_token"]:
            return "cls"
        case _:
            raise _useless(model_id, "pools by neither mean nor cls token")


def _json(file: Path) -> dict[str, Any]:
    try:
        found: Any = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as opened:
                while block := opened.read(2**20):
                    digest.update(block)
    return digest.hexdigest()


def _useless(model_id: str, why: str) -> Unavailable:
    return Unavailable(f"the model {model_id} {why}", reason="MODEL_UNAVAILABLE")
