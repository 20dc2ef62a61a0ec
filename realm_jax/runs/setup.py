"""Open what a config names: corpus, models, parameters."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh

from realm_jax.config import CONFIG_FILE, Config, to_dict
from realm_jax.data.corpus import Corpus
from realm_jax.errors import ConfigError
from realm_jax.hosts.layout import put
from realm_jax.mesh import batch_shards, check_rows, make_mesh
from realm_jax.models.bert import Bert
from realm_jax.models.build import TOWERS, Models, build_models
from realm_jax.ops.trees import first_difference
from realm_jax.text.tokenizer import VOCABULARY, Tokenizer, copy_vocabulary
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.sharding import make_sharded, param_shardings
from realm_jax.types import Params

READERS = ("encoder", "reader")  # the parts that read; the others retrieve


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
    shapes, model = config.shapes, config.model
    embedded = max(shapes.query_length, shapes.block_length)
    for name, bert, longest in (
        ("bert", model.bert, max(shapes.query_length, shapes.joint_length)),
        (_retriever_name(config), model.retriever_bert, embedded),
    ):
        if longest > bert.max_positions:
            raise ConfigError(
                f"model.{name}.max_positions must cover the longest row",
                got=f"{bert.max_positions} positions for {longest} tokens",
                remedy=f"Shorten shapes.*_length or raise model.{name}.max_positions.",
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


def check_one_size(config: Config, encoder_from: Path | None) -> None:
    """Refuse to start the encoder from the embedder where it is of another size, or comes from elsewhere.

    Raises:
      ConfigError: it is.
    """
    model = config.model
    if encoder_from is not None or model.retriever_bert != model.bert:
        raise ConfigError(
            "encoder_from_embedder needs an embedder whose BERT is model.bert, and no --encoder-from",
            got=f"--encoder-from {encoder_from}" if encoder_from else "model.embedder_bert of its own",
            remedy="Set encoder_from_embedder to false.",
        )


def mesh_of(config: Config, phase: str, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Lay out the devices of a run.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`.
      devices: which; None: all there are.

    Returns:
      The mesh; None where the run uses one device.

    Raises:
      ConfigError: the sizes of the mesh do not fit the devices, the model, or a batch.
    """
    training, embedding = devices_of(config, phase, devices)
    mesh = make_mesh(**dataclasses.asdict(config.mesh), devices=training)
    check_layout(config, phase, mesh, embedders=len(embedding))
    return mesh


def check_layout(config: Config, phase: str, mesh: Mesh | AbstractMesh | None, *, embedders: int) -> None:
    """Refuse a mesh that the model or a batch cannot be split over.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`.
      mesh: the devices that train; None is a single one.
      embedders: devices that only embed.

    Raises:
      ConfigError: names the size that does not fit.
    """
    tensor = config.mesh.tensor
    for name, bert in (("bert", config.model.bert), (_retriever_name(config), config.model.retriever_bert)):
        if bert.num_heads % tensor:
            raise ConfigError(
                f"mesh.tensor must divide model.{name}.num_heads",
                got=f"{tensor} for {bert.num_heads} heads",
                remedy="Choose a divisor, or split parameters with mesh.fsdp.",
            )
    settings = getattr(config, phase)
    name = f"{phase}.batch_size" + (f" / {phase}.microbatches" if settings.microbatches > 1 else "")
    check_rows(name, settings.batch_size // settings.microbatches, parts=batch_shards(mesh))
    if phase != "ict":
        # Every device embeds the blocks of the first index, and unless others do, those of the next.
        for parts in {1 if mesh is None else mesh.size, embedders or 1}:
            check_rows("index.embed_batch_size", config.index.embed_batch_size, parts=parts)


def devices_of(
    config: Config, phase: str, devices: Sequence[jax.Device] | None = None
) -> tuple[list[jax.Device], list[jax.Device]]:
    """Say which devices train, and which only embed blocks: the last ones, of each process as many.

    Args:
      config: the experiment.
      phase: `ict`, `read`, `realm` or `qa`; one that does not refresh its index trains on all devices.
      devices: which there are; None: all.

    Raises:
      ConfigError: none is left to train, or not every process can set as many apart.
    """
    available = list(jax.devices() if devices is None else devices)
    kept = len(available) - training_devices(config, phase, len(available))
    processes = {device.process_index for device in available}
    if kept % len(processes):
        raise ConfigError(
            "every process sets as many of its devices apart as the others",
            got=f"refresh.devices {kept} of {len(processes)} processes",
            remedy=f"Make refresh.devices a multiple of {len(processes)}.",
        )
    own = {p: [device for device in available if device.process_index == p] for p in processes}
    embedding = [device for p in sorted(own) for device in own[p][len(own[p]) - kept // len(processes) :]]
    return [device for device in available if device not in embedding], embedding


def training_devices(config: Config, phase: str, count: int) -> int:
    """Count the devices that train, of `count`; the others only embed blocks.

    Raises:
      ConfigError: none is left to train.
    """
    kept = config.refresh.devices if refreshes(config, phase) else 0
    if kept >= count:
        raise ConfigError(
            "refresh.devices leaves devices to train on",
            got=f"{kept} of {count}",
            remedy="Lower it, or use refresh.worker thread.",
        )
    return count - kept


def refreshes(config: Config, phase: str) -> bool:
    """Say whether a phase embeds its index anew."""
    if phase == "ict" or not config.refresh.every:
        return False
    if phase == "qa":
        return config.qa.end_to_end
    return getattr(config, phase).weights == "retrieval"


def candidates_read(config: Config, phase: str) -> int:
    """Return K of a phase that reads, the null block included."""
    return getattr(config, phase).candidates or config.shapes.candidates


def check_run_vocabulary(folder: Path, corpus: Corpus, *, name: str = VOCABULARY) -> None:
    """Refuse a corpus whose wordpieces are not those of a run.

    Args:
      folder: of the run; one without the file says nothing.
      corpus: what it is to be used with.
      name: of the file that holds the wordpieces.

    Raises:
      ConfigError: their wordpieces differ.
    """
    path = folder / name
    if path.is_file() and Tokenizer.load(path).content_hash != corpus.tokenizer.content_hash:
        raise ConfigError(
            "a run is used with corpora of its own vocabulary",
            got=f"{corpus.path}, whose wordpieces are not those of {folder}",
            remedy=f"Prepare the corpus with --tokenizer {path}.",
        )


def models_of(config: Config, *, rematerialisation: str = "none") -> Models:
    """Build the models of a resolved config; for training, with the phase's `rematerialisation`."""
    part = config.model
    bert, embedder_bert = (
        Bert(
            vocab_size=part.vocab_size,
            dtype=jnp.dtype(part.dtype),
            rematerialisation=rematerialisation,
            **dataclasses.asdict(size),
        )
        for size in (part.bert, part.retriever_bert)
    )
    return build_models(
        bert=bert,
        embedder_bert=embedder_bert,
        embedding_size=part.embedding_size,
        two_towers=part.two_towers,
        span_hidden_size=part.span_hidden_size,
        span_norm_eps=part.span_norm_eps,
        max_span_width=part.max_span_width,
        pooling=part.pooling,
        normalize=part.normalize,
    )


def initial_params(
    models: Models,
    *,
    seed: int,
    start_from: Path | None,
    encoder_from: Path | None = None,
    mesh: Mesh | None = None,
) -> Params:
    """Make the parameters a phase starts from.

    Args:
      models: the models.
      seed: of fresh parameters.
      start_from: run folder of the phase before; None starts from fresh parameters.
      encoder_from: run folder that encoder and reader are taken from instead.
      mesh: where they go; None is the default device.

    Returns:
      All parts, by name. A shared embedder becomes two towers where the models ask for two.

    Raises:
      ConfigError: the parameters there are of another size.
    """
    key = jax.random.key(seed)
    if start_from is None and encoder_from is None:
        return make_sharded(jax.jit(models.init), key, mesh=mesh)
    fresh = jax.eval_shape(models.init, key)
    if start_from is None:
        params = dict(jax.jit(models.init)(key))
    else:
        params = dict(Checkpoints(start_from).restore_params())
        if models.two_towers and "embedder" in params:
            shared = params.pop("embedder")
            params |= {name: shared for name in TOWERS[True]}
        if encoder_from is not None:  # what is replaced may be of any size
            params = {name: part for name, part in params.items() if name not in READERS}
            _check_sizes(params, {name: fresh[name] for name in fresh if name not in READERS}, start_from)
        else:
            _check_sizes(params, fresh, start_from)
    if encoder_from is not None:
        restored = Checkpoints(encoder_from).restore_params()
        readers = {name: restored[name] for name in READERS}
        _check_sizes(readers, {name: fresh[name] for name in READERS}, encoder_from)
        params |= readers
    if mesh is not None:
        return put(params, param_shardings(mesh, params))
    return jax.tree.map(jnp.asarray, params)


def _check_sizes(params: Params, wanted: Params, folder: Path) -> None:
    """Refuse parameters of a run that have other shapes or dtypes than wanted."""
    if (difference := first_difference(params, wanted)) is not None:
        name, found, needed = difference
        raise ConfigError(
            f"the parameters in {folder} must have the sizes of model.*",
            got=f"{name}: {found} there, {needed} here",
            remedy=f"Take model.* from {folder / CONFIG_FILE}.",
        )


def _retriever_name(config: Config) -> str:
    """Name the part of `model` that the embedder's size stands in."""
    return "embedder_bert" if config.model.embedder_bert.hidden_size else "bert"


def save_config(config: Config, workdir: Path) -> None:
    """Write the resolved config beside the checkpoints, and the vocabulary of the corpus it names."""
    workdir.mkdir(parents=True, exist_ok=True)
    before = workdir / CONFIG_FILE
    if before.is_file() and not _is_config(before):
        raise ConfigError(
            "a run is written to a folder of its own",
            got=f"{workdir}, whose {CONFIG_FILE} is that of something else",
            remedy="Choose another folder.",
        )
    vocabulary = Path(config.corpus) / VOCABULARY
    if config.corpus and vocabulary.is_file():
        copy_vocabulary(vocabulary, workdir)
    text = json.dumps(to_dict(config), indent=2) + "\n"
    aside = workdir / f".{CONFIG_FILE}"
    aside.write_text(text, encoding="utf-8")
    aside.replace(workdir / CONFIG_FILE)  # at once: a resumption may be cut short, too


def _is_config(path: Path) -> bool:
    try:
        return set(json.loads(path.read_text(encoding="utf-8"))) >= {"model", "shapes", "corpus"}
    except (ValueError, TypeError):  # one that was cut short is written anew
        return not path.stat().st_size
