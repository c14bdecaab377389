"""The yardstick of embedding: onnxruntime in a plain loop, with nothing around it.

Texts in batches of 16 of like length, all cores, the same model file, tokenizer and pooling as the
service's. The session is loaded before the clock starts.
"""

import time
from collections.abc import Sequence

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.load import Measured
from knowledged.embedding import bundled

_BATCH = 16


async def embed(texts: Sequence[str]) -> Measured:
    """Each text once; `qps` is texts a second, latencies are those of a batch."""
    files = bundled.locate()
    session = onnxruntime.InferenceSession(str(files.model), providers=["CPUExecutionProvider"])
    tokenizer = Tokenizer.from_file(str(files.tokenizer))
    tokenizer.enable_truncation(files.max_length)
    tokenizer.enable_padding()
    _vectors(session, tokenizer, texts[:_BATCH])
    began = time.perf_counter()
    by_length = sorted(texts, key=len)
    for first in range(0, len(texts), _BATCH):
        _vectors(session, tokenizer, by_length[first : first + _BATCH])
    seconds = time.perf_counter() - began
    return Measured(len(texts) / seconds, seconds, seconds, len(texts))


def _vectors(
    session: onnxruntime.InferenceSession, tokenizer: Tokenizer, texts: Sequence[str]
) -> NDArray[np.float32]:
    encodings = tokenizer.encode_batch(list(texts))
    ids = np.array([encoding.ids for encoding in encodings])
    mask = np.array([encoding.attention_mask for encoding in encodings])
    feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    hidden = np.asarray(session.run(None, feeds)[0])
    sums = np.einsum("btd,bt->bd", hidden, mask.astype(np.float32))
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)
