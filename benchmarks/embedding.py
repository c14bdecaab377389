"""The row about the local provider: what its queue, thread and tokenizer cost beside the model."""

import time
from collections.abc import Sequence

from benchmarks import onnx_loop
from benchmarks.load import Measured
from benchmarks.report import Row, row
from benchmarks.rounds import Bench, timed
from knowledged.embedding import bundled
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer


def provider_row(bench: Bench, texts_a_round: int) -> Row:
    """The provider's own `embed`, without server and database, on the texts of the bare loop."""

    def pair(texts: Sequence[str]) -> tuple[Measured, Measured]:
        ours = timed(bench, embed, texts).measured
        return ours, timed(bench, onnx_loop.embed, texts).measured

    rounds = [
        pair(bench.corpus.texts[number * texts_a_round : (number + 1) * texts_a_round])
        for number in range(bench.rounds)
    ]
    ratios = [ours.qps / bare.qps for ours, bare in rounds]
    details = f"{rounds[-1][0].qps:.0f}/s, bare {rounds[-1][1].qps:.0f}/s"
    return row("local provider, texts a second ÷ bare ONNX loop", ratios, "≥ 0.85", details)


async def embed(texts: Sequence[str]) -> Measured:
    """All texts in one call, as a worker sends them; the model is loaded before that."""
    files = bundled.locate()
    embedder = LocalEmbedder(files, TextTokenizer(files.tokenizer), threads=2)
    await embedder.embed(texts[:16])
    began = time.perf_counter()
    await embedder.embed(texts)
    seconds = time.perf_counter() - began
    await embedder.close()
    return Measured(len(texts) / seconds, seconds, seconds, len(texts))
