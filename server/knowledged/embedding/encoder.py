"""Token ids to vectors: an ONNX sentence transformer on the CPU."""

import ctypes
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from knowledged.embedding.model_files import Pooling
from knowledged.embedding.tokenizer import TokenIds
from knowledged.errors import Unavailable


class SentenceEncoder:
    """A transformer whose last hidden states become one vector of length 1 for each text.

    By the mean over the text's tokens or by its first token: the poolings of Sentence-BERT (Reimers
    and Gurevych 2019, arXiv:1908.10084).
    """

    def __init__(self, model: Path, threads: int = 1, pooling: Pooling = "mean") -> None:
        """Load the model (about 0.2 s); each batch takes all its `threads`."""
        self._session = _session(model, threads)
        self._pool = _mean if pooling == "mean" else _first
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self.dimension = _dimension(self._session)
        _give_back_freed_memory()

    def encode(self, texts: Sequence[TokenIds]) -> NDArray[np.float32]:
        """One batch, padded to its longest text: float32, shape (len(texts), dimension)."""
        ids, mask = _pad(texts)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        used = {name: value for name, value in feeds.items() if name in self._inputs}
        return self._pool(self._session.run(None, used)[0], mask)


class Encoders:
    """A model for batches one at a time, which take all `threads`, and for several at a time, which
    take a thread each: nearly a fifth faster, since no thread waits for another within a batch.

    The second is loaded when it is first needed (some 40 MB).
    """

    def __init__(self, model: Path, threads: int | None, pooling: Pooling) -> None:
        self.threads = threads or min(4, os.cpu_count() or 1)
        self._model = model
        self._pooling: Pooling = pooling
        self._wide = SentenceEncoder(model, self.threads, pooling)
        self._narrow = self._wide if self.threads == 1 else None
        self._loading = threading.Lock()
        self.dimension = self._wide.dimension

    def encode(self, texts: Sequence[TokenIds], alone: bool) -> NDArray[np.float32]:
        """As SentenceEncoder.encode; from several threads at once, then not `alone`."""
        return (self._wide if alone else self._loaded()).encode(texts)

    def _loaded(self) -> SentenceEncoder:
        with self._loading:
            if self._narrow is None:
                self._narrow = SentenceEncoder(self._model, 1, self._pooling)
            return self._narrow


def _session(model: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A thread that spins while it waits holds a core that PostgreSQL or its own peer could use: on
    # 2 busy cores that made batches half as fast, for twice the CPU.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Lengths vary, so plans of memory by shape only pile up.
    options.enable_mem_pattern = False
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def _dimension(session: onnxruntime.InferenceSession) -> int:
    size = session.get_outputs()[0].shape[-1]
    if not isinstance(size, int):
        raise Unavailable("the model has no fixed dimension", reason="MODEL_UNAVAILABLE")
    return size


def _pad(texts: Sequence[TokenIds]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and attention mask, each of shape (texts, longest); 0 where a text has ended."""
    shape = (len(texts), max(map(len, texts)))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens)] = tokens
        mask[row, : len(tokens)] = 1
    return ids, mask


def _mean(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """Hidden states (texts, tokens, dimension) to unit vectors (texts, dimension)."""
    # The sum has the mean's direction, and only the direction outlives the normalisation.
    vectors = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _first(hidden: NDArray[np.float32], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    """As `_mean`, of each text's first token, which is never padding."""
    vectors = hidden[:, 0]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _give_back_freed_memory() -> None:
    """After loading, glibc holds 60 MB of freed copies of the weights; other libraries need not."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
