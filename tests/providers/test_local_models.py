"""Local models: the bundled one against its original, folders, and models of the Hub."""

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hugging_face_server import DIGEST, GATED, MODEL, HuggingFaceServer
from knowledged.commands import offering
from knowledged.credentials.api_key import ApiKey
from knowledged.credentials.keys import Keys
from knowledged.embedding import bundled, hub, model_folder
from knowledged.embedding.encoder import SentenceEncoder
from knowledged.embedding.local import LocalEmbedder
from knowledged.embedding.tokenizer import TextTokenizer
from knowledged.errors import Unavailable
from knowledged.notices import Notices
from knowledged.settings import Settings, SettingsError
from served import Model

GOLDEN = Path(__file__).parents[1] / "golden/reference_vectors.json"
KEY = ApiKey("hf_hubhubhubhubhubhubhub0001")


@pytest.mark.parametrize(
    # int8 weights cost a little more where a text fills all that the model reads.
    ("kind", "count", "least"),
    [("texts", 100, 0.999), ("long_texts", 20, 0.998)],
)
async def test_the_bundled_models_vectors_are_those_of_its_fp32_original(
    kind: str, count: int, least: float, model: Model
) -> None:
    golden = json.loads(GOLDEN.read_text())[kind]
    raw = np.frombuffer(base64.b64decode(golden["vectors_f2_le"]), "<f2")
    original = raw.reshape(count, 384).astype(np.float32)
    assert len(set(golden["texts"])) == count
    mine = await model.embedder.embed(golden["texts"])
    cosines = np.einsum("td,td->t", mine, original) / np.linalg.norm(original, axis=1)
    print(f"cosine to fp32: least {cosines.min():.5f}, median {np.median(cosines):.5f}")
    assert cosines.min() >= least


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The bundled model as the Hub would lay it out."""
    files, made = bundled.locate(), tmp_path / "minilm"
    (made / "onnx").mkdir(parents=True)
    (made / "1_Pooling").mkdir()
    shutil.copy(files.model, made / "onnx/model.onnx")
    shutil.copy(files.tokenizer, made / "tokenizer.json")
    (made / "sentence_bert_config.json").write_text('{"max_seq_length": 256}')
    (made / "1_Pooling/config.json").write_text('{"pooling_mode_mean_tokens": true}')
    return made


async def test_a_folder_serves_like_the_bundled_model(folder: Path, model: Model) -> None:
    files = model_folder.locate(folder, "minilm")
    assert files.model_sha256 == bundled.locate().model_sha256
    assert (files.max_length, files.pooling) == (256, "mean")
    embedder = LocalEmbedder(files, TextTokenizer(files.tokenizer), threads=1)
    mine, theirs = await embedder.embed(["gout"]), await model.embedder.embed(["gout"])
    assert np.allclose(mine, theirs, atol=1e-5)
    await embedder.close()


def test_a_model_that_pools_by_its_first_token_is_pooled_so(folder: Path) -> None:
    (folder / "1_Pooling/config.json").write_text(
        '{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    files = model_folder.locate(folder, "minilm")
    assert files.pooling == "cls"
    ids = TextTokenizer(files.tokenizer).encode(["gout hurts", "a"], 256)
    first, mean = (SentenceEncoder(files.model, 1, p).encode(ids) for p in ("cls", "mean"))
    assert np.allclose(np.linalg.norm(first, axis=1), 1, atol=1e-5)
    assert float(first[0] @ mean[0]) < 0.99


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "onnx/model.onnx").unlink(), "has no onnx/model.onnx or model.onnx"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer.json"),
        (
            lambda f: (f / "1_Pooling/config.json").write_text('{"pooling_mode_max_tokens": true}'),
            "pools by neither mean nor cls",
        ),
    ],
)
def test_a_folder_that_is_no_model_is_refused_by_what_it_lacks(
    folder: Path, spoil: Any, said: str
) -> None:
    spoil(folder)
    with pytest.raises(Unavailable, match=said):
        model_folder.locate(folder, "minilm")


def test_where_no_length_is_told_it_is_512(folder: Path) -> None:
    (folder / "sentence_bert_config.json").write_text("no JSON")
    told = '{"model_max_length": 1000000000000000019884624838656}'
    (folder / "tokenizer_config.json").write_text(told)
    assert model_folder.locate(folder, "minilm").max_length == 512


def test_weights_in_a_second_file_count_in_the_digest(folder: Path) -> None:
    before = model_folder.locate(folder, "minilm").model_sha256
    (folder / "onnx/model.onnx_data").write_bytes(b"other weights")
    assert model_folder.locate(folder, "minilm").model_sha256 != before


@pytest.fixture
def a_hub(
    outside: HuggingFaceServer, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> HuggingFaceServer:
    """The Hub on loopback with the model's files, and a cache that is empty."""
    for name in ("HF_HUB_CACHE", "HF_XET_CACHE"):
        monkeypatch.setattr(f"huggingface_hub.constants.{name}", str(tmp_path / name))
    monkeypatch.setenv("HF_TOKEN", "hf_ofthemachinesuserofthemachine")
    names = [file for file in folder.rglob("*") if file.is_file()]
    outside.files = {str(file.relative_to(folder)): file for file in names}
    outside.files["README.md"] = folder / "tokenizer.json"
    return outside


async def test_a_model_of_the_hub_is_fetched_once_and_then_in_the_cache(
    a_hub: HuggingFaceServer, model: Model
) -> None:
    files = hub.locate(MODEL, None, KEY, a_hub.url)
    assert (files.model_id, files.max_length) == (MODEL, 256)
    assert files.model_sha256 == model.embedder.model_digest
    assert {each.key for each in a_hub.asked} == {KEY.reveal()}
    assert "README" not in a_hub.seen()
    a_hub.close()
    assert hub.locate(MODEL, None, None, a_hub.url).model_sha256 == files.model_sha256
    assert hub.locate(MODEL, DIGEST, None, a_hub.url).model == files.model


def test_offline_the_hub_is_not_asked(
    a_hub: HuggingFaceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.locate(MODEL, None, None, a_hub.url)
    a_hub.asked.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert hub.locate(MODEL, None, KEY, a_hub.url).model_id == MODEL
    with pytest.raises(Unavailable, match="not in the cache"):
        hub.locate("test/other", None, KEY, a_hub.url)
    assert a_hub.asked == []


@pytest.mark.parametrize(
    ("model_id", "said"),
    [
        (GATED, "is gated"),
        ("test/never-was", "has no such model"),
        ("no id", "is no id of a model"),
    ],
)
def test_a_model_that_cannot_be_had_is_told_with_what_to_do(
    a_hub: HuggingFaceServer, model_id: str, said: str
) -> None:
    with pytest.raises(Unavailable, match=said) as refused:
        hub.locate(model_id, None, None, a_hub.url)
    assert "ofthemachine" not in a_hub.seen() + str(refused.value)


@pytest.mark.parametrize(
    "spec",
    ["org/name", "org/name:0", "org/name:1901", "org/name:384:8", "org/name@main:384", "a:b:c", ""],
)
def test_a_remote_model_needs_its_dimension(spec: str) -> None:
    with pytest.raises(SettingsError, match="KNOWLEDGED_HUGGING_FACE_MODELS"):
        offering.remote_model(spec, "")


def test_a_remote_model_may_have_revision_and_length() -> None:
    made = offering.remote_model(f"org/name@{DIGEST}:1024:8190", "http://127.0.0.1:8080")
    assert (made.model_id, made.revision) == ("org/name", DIGEST)
    assert (made.dimension, made.max_tokens, made.url) == (1024, 8190, "http://127.0.0.1:8080")


async def test_two_models_of_one_id_are_refused(model: Model) -> None:
    from knowledged.embedding.catalogue import Catalogue

    with pytest.raises(ValueError, match="same id"):
        Catalogue([model.offered, model.offered])
    with pytest.raises(ValueError, match="default"):
        Catalogue([model.offered], "other")


def test_a_folder_that_is_missing_stops_the_server_with_its_name() -> None:
    settings = Settings(local_models=("/nowhere/minilm",), metrics_port=0)
    with pytest.raises(Unavailable, match="minilm has no"):
        offering._files("/nowhere/minilm", settings, Keys("huggingface", Notices()))
