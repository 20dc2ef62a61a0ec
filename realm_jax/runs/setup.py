"""Open what a config names: corpus, models, parameters."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from realm_jax.config import Config, to_dict
from realm_jax.data.corpus import Corpus
from realm_jax.data.writer import VOCABULARY
from realm_jax.errors import ConfigError
from realm_jax.mesh import batch_shards, check_rows, make_mesh
from realm_jax.models.bert import Bert
from realm_jax.models.build import TOWERS, Models, build_models
from realm_jax.text.tokenizer import Tokenizer
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.sharding import make_sharded, param_shardings
from realm_jax.types import Params

CONFIG_FILE = "config.json"


def resolve(config: Config, corpus: Corpus) -> Config:
    """Fill in what the corpus decides.

    Args:
      config: as the user gave it.
      corpus: the searched corpus.

    Returns:
      The config with the vocabulary size of the corpus.

    Raises:
      ConfigError: vocabulary, positions or lengths do not fit the corpus.
    """
    vocab_size = corpus.tokenizer.vocab_size
    if config.model.vocab_size not in (0, vocab_size):
        raise ConfigError(
            "model.vocab_size must be that of the corpus",
            got=f"{config.model.vocab_size} for a corpus with {vocab_size} wordpieces",
            remedy="Leave it at 0, or prepare the corpus with the model's vocabulary.",
        )
    longest = max(config.shapes.query_length, config.shapes.block_length, config.shapes.joint_length)
    if longest > config.model.bert.max_positions:
        raise ConfigError(
            "model.bert.max_positions must cover the longest row",
            got=f"{config.model.bert.max_positions} positions for {longest} tokens",
            remedy="Shorten shapes.*_length or raise model.bert.max_positions.",
        )
    return dataclasses.replace(config, model=dataclasses.replace(config.model, vocab_size=vocab_size))


def check_vocabulary(text: Corpus, corpus: Corpus) -> None:
    """Refuse two corpora of different vocabularies.

    Raises:
      ConfigError: their wordpieces differ.
    """
    if text.tokenizer.content_hash != corpus.tokenizer.content_hash:
        raise ConfigError(
            "text and corpus must share their vocabulary",
            got=f"{text.path} and {corpus.path} with different ones",
            remedy=f"Prepare the text with --tokenizer {corpus.path}.",
        )


def mesh_of(config: Config, phase: str) -> Mesh | None:
    """Lay out the devices of a run.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`.

    Returns:
      The mesh; None where the run uses one device.

    Raises:
      ConfigError: the sizes of the mesh do not fit the devices, the model, or a batch.
    """
    heads, tensor = config.model.bert.num_heads, config.mesh.tensor
    if heads % tensor:
        raise ConfigError(
            "mesh.tensor must divide model.bert.num_heads",
            got=f"{tensor} for {heads} heads",
            remedy="Choose a divisor, or split parameters with mesh.fsdp.",
        )
    training, embedding = devices_of(config, phase)
    mesh = make_mesh(**dataclasses.asdict(config.mesh), devices=training)
    settings = getattr(config, phase)
    name = f"{phase}.batch_size" + (f" / {phase}.microbatches" if settings.microbatches > 1 else "")
    check_rows(name, settings.batch_size // settings.microbatches, parts=batch_shards(mesh))
    if phase != "ict":
        # Every device embeds the blocks of the first index, and unless others do, those of the next.
        for embedders in {1 if mesh is None else mesh.size, len(embedding) or 1}:
            check_rows("index.embed_batch_size", config.index.embed_batch_size, parts=embedders)
    return mesh


def devices_of(config: Config, phase: str) -> tuple[list[jax.Device], list[jax.Device]]:
    """Say which devices train, and which only embed blocks.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`; one that does not refresh its index trains on all devices.

    Raises:
      ConfigError: none is left to train.
    """
    devices = jax.devices()
    kept = config.refresh.devices if _refreshes(config, phase) else 0
    if kept >= len(devices):
        raise ConfigError(
            "refresh.devices leaves devices to train on",
            got=f"{kept} of {len(devices)}",
            remedy="Lower it, or use refresh.worker thread.",
        )
    return devices[: len(devices) - kept], devices[len(devices) - kept :]


def _refreshes(config: Config, phase: str) -> bool:
    if phase == "ict" or not config.refresh.every:
        return False
    if phase == "qa":
        return config.qa.end_to_end
    return getattr(config, phase).weights == "retrieval"


def check_run_vocabulary(folder: Path, corpus: Corpus) -> None:
    """Refuse a corpus whose wordpieces are not those of a run.

    Args:
      folder: of the run; one without a vocab.txt says nothing.
      corpus: what it is to be used with.

    Raises:
      ConfigError: their wordpieces differ.
    """
    path = folder / VOCABULARY
    if path.is_file() and Tokenizer.load(path).content_hash != corpus.tokenizer.content_hash:
        raise ConfigError(
            "a run is used with corpora of its own vocabulary",
            got=f"{corpus.path}, whose wordpieces are not those of {folder}",
            remedy=f"Prepare the corpus with --tokenizer {folder}.",
        )


def models_of(config: Config, *, rematerialisation: str = "none") -> Models:
    """Build the models of a resolved config; for training, with the phase's `rematerialisation`."""
    part = config.model
    bert = Bert(
        vocab_size=part.vocab_size,
        dtype=jnp.dtype(part.dtype),
        rematerialisation=rematerialisation,
        **dataclasses.asdict(part.bert),
    )
    return build_models(
        bert=bert,
        embedding_size=part.embedding_size,
        two_towers=part.two_towers,
        span_hidden_size=part.span_hidden_size,
        span_norm_eps=part.span_norm_eps,
        max_span_width=part.max_span_width,
        pooling=part.pooling,
        normalize=part.normalize,
    )


def initial_params(models: Models, *, seed: int, start_from: Path | None, mesh: Mesh | None = None) -> Params:
    """Make the parameters a phase starts from.

    Args:
      models: the models.
      seed: of fresh parameters.
      start_from: run folder of the phase before; None starts from fresh parameters.
      mesh: where they go; None is the default device.

    Returns:
      All parts, by name. A shared embedder becomes two towers where the models ask for two.

    Raises:
      ConfigError: the parameters there are of another size.
    """
    key = jax.random.key(seed)
    if start_from is None:
        return make_sharded(jax.jit(models.init), key, mesh=mesh)
    fresh = jax.eval_shape(models.init, key)
    params = dict(Checkpoints(start_from).restore_params())
    if models.two_towers and "embedder" in params:
        shared = params.pop("embedder")
        params |= {name: shared for name in TOWERS[True]}
    found, wanted = (jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree) for tree in (params, fresh))
    if found != wanted:
        raise ConfigError(
            f"the parameters in {start_from} must have the sizes of model.*",
            got=_first_difference(found, wanted),
            remedy=f"Take model.* from {start_from / CONFIG_FILE}.",
        )
    if mesh is not None:
        return jax.device_put(params, param_shardings(mesh, params))
    return jax.tree.map(jnp.asarray, params)


def save_config(config: Config, workdir: Path) -> None:
    """Write the resolved config beside the checkpoints, and the vocabulary of the corpus it names."""
    workdir.mkdir(parents=True, exist_ok=True)
    vocabulary = Path(config.corpus) / VOCABULARY
    if config.corpus and vocabulary.is_file():
        shutil.copyfile(vocabulary, workdir / VOCABULARY)
    text = json.dumps(to_dict(config), indent=2) + "\n"
    (workdir / CONFIG_FILE).write_text(text, encoding="utf-8")


def _first_difference(found: Any, wanted: Any) -> str:
    left, right = (
        dict(jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_shape)) for tree in (found, wanted)
    )
    for path in sorted({*left, *right}, key=str):
        if left.get(path) != right.get(path):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            return f"{name}: {left.get(path, 'absent')} there, {right.get(path, 'absent')} here"
    return "trees of different structure"


def _is_shape(node: Any) -> bool:
    return isinstance(node, tuple)
