"""A small model and its checkpoints, for the tests of import and export."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from realm_jax.models.export import export_pretrained, source_for
from realm_jax.models.pretrained import imported_models

REALM_CLASSES = ["RealmEmbedder", "RealmScorer", "RealmKnowledgeAugEncoder", "RealmReader", "RealmForOpenQA"]


def small_config(**changes: Any) -> dict[str, Any]:
    bert = {
        "hidden_size": 8,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 12,
        "max_positions": 10,
        "type_vocab_size": 2,
        "activation": "gelu_tanh",
        "layer_norm_eps": 1e-12,
        "dropout": 0.1,
    }
    return {
        "bert": bert,
        "vocab_size": 20,
        "embedding_size": 4,
        "two_towers": False,
        "span_hidden_size": 6,
        "span_norm_eps": 1e-3,
        "max_span_width": 3,
        "pooling": "pooler",
        "normalize": False,
    } | changes


def plain_config(**changes: Any) -> dict[str, Any]:
    """A BERT without a projection; the reader's sizes are the library's defaults."""
    return small_config(embedding_size=0, span_hidden_size=256, max_span_width=10, **changes)


def small_params(config: dict[str, Any], *, seed: int = 0) -> dict[str, Any]:
    """Random parameters in every leaf, biases and scales too."""
    shapes = jax.eval_shape(imported_models(config).init, jax.random.key(0))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


def block_embeddings(config: dict[str, Any]) -> dict[str, np.ndarray]:
    size = config["embedding_size"]
    return {"block_emb": np.random.default_rng(1).normal(size=(5, size)).astype(np.float32)}


def write(name: str, config: dict[str, Any], folder: Path, *, seed: int = 0) -> dict[str, Any]:
    """Export random parameters as a public class, and return them."""
    params = small_params(config, seed=seed)
    unread = block_embeddings(config) if name == "RealmForOpenQA" else {}
    export_pretrained(params, config, folder, source=source_for(name, config), unread=unread)
    return params


def tensors_of(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "model.safetensors")


def rewrite(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
