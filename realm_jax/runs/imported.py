"""A run folder made from a public checkpoint, and a public checkpoint made from a run folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from realm_jax.config import Config, IndexConfig, ModelConfig, QaConfig, ShapeConfig, from_dict, to_dict
from realm_jax.data.block_records import write_block_records
from realm_jax.data.corpus import Corpus
from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.export import export_pretrained, source_for
from realm_jax.models.layout import architecture as public_class
from realm_jax.models.pretrained import Pretrained, Source
from realm_jax.models.public_config import reader_config
from realm_jax.models.sidecar import LAYOUT, load_sidecar, save_sidecar
from realm_jax.models.warm_start import warm_start
from realm_jax.runs.live_index import INDEX_FOLDER, publish_version, recipe_of
from realm_jax.runs.setup import READERS, check_run_vocabulary, models_of, resolve, save_config
from realm_jax.text.tokenizer import copy_vocabulary
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import create_state
from realm_jax.types import Params

BLOCK_EMBEDDINGS, BLOCK_RECORDS = "block_emb", "block_records.npy"  # the names in the public layout
IMPORTED = "import"  # phase of a run folder that was imported without a reader


def save_imported(
    pretrained: Pretrained, workdir: Path, *, corpus: Corpus | None = None, seed: int = 0
) -> list[str]:
    """Write a run folder that every other command takes: checkpoint of step 0, config, vocabulary, layout.

    Parts that the checkpoint lacks start from the BERT of another part, their heads fresh. With a reader the
    folder is that of a fine-tuned run.

    Args:
      pretrained: the imported checkpoint.
      workdir: folder to write; must not hold a run.
      corpus: to search; where the checkpoint carries block embeddings, its blocks are those, in their order,
        and the embeddings become the index.
      seed: of the fresh heads.

    Returns:
      The modules that stayed fresh, as "part/module".

    Raises:
      CheckpointError: the folder holds a run already.
      ConfigError: the corpus has another number of blocks, or another vocabulary.
    """
    if (workdir / "checkpoints").exists():
        raise CheckpointError(
            "an import is written to a folder of its own", got=str(workdir), remedy="Choose another folder."
        )
    config = imported_config(pretrained, name=workdir.name)
    if corpus is not None:
        config = resolve(replace(config, corpus=str(corpus.path)), corpus)
        if pretrained.vocabulary is not None:
            check_run_vocabulary(pretrained.vocabulary.parent, corpus, name=pretrained.vocabulary.name)
    params = jax.jit(models_of(config).init)(jax.random.key(seed))
    params, fresh = warm_start(params, pretrained.params)
    save_config(config, workdir)
    if pretrained.vocabulary is not None:
        copy_vocabulary(pretrained.vocabulary, workdir)
    save_sidecar(workdir, pretrained.source, pretrained.unread)
    record: dict[str, Any] = {
        "phase": "qa" if "reader" in pretrained.params else IMPORTED,
        "config": to_dict(config),
    }
    if corpus is not None and BLOCK_EMBEDDINGS in pretrained.unread:
        publish_embeddings(pretrained.unread[BLOCK_EMBEDDINGS], corpus, workdir, config.index)
        record["index_version"] = 0
    params = jax.tree.map(jnp.asarray, params)
    checkpoints = Checkpoints(workdir, keep=1)
    state = create_state(params, optimizer=optax.identity(), trained=[], seed=seed)
    checkpoints.save(state, record={**record, "data": None})
    checkpoints.close()
    return fresh


def publish_embeddings(embeddings: np.ndarray, corpus: Corpus, workdir: Path, settings: IndexConfig) -> None:
    """Publish block embeddings as version 0 of a run's index.

    Args:
      embeddings: float32 `[N, D]`, a row a block.
      corpus: the blocks.
      workdir: folder of the run.
      settings: engine, and what is asked of it.

    Raises:
      ConfigError: the corpus has another number of blocks.
      RecallError: the engine finds too little.
    """
    if len(embeddings) != len(corpus):
        raise ConfigError(
            f"the corpus must hold the {len(embeddings)} blocks whose embeddings the checkpoint carries",
            got=f"{len(corpus)} blocks in {corpus.path}",
            remedy="Leave the corpus out here, and embed it with the imported model.",
        )
    if any(source.endswith(".npy") for source in corpus.manifest["sources"]):
        for block_id in range(len(corpus)):
            if (record := corpus.text(block_id).document_id) != str(block_id):
                raise ConfigError(
                    f"block {block_id} is record {block_id} of {BLOCK_RECORDS}",
                    got=f"record {record}: one before it is blank, or was cut into several blocks",
                    remedy="Prepare it with a larger --max-block-tokens.",
                )
    publish_version(
        np.asarray(embeddings, np.float32),
        0,
        corpus=corpus,
        root=workdir / INDEX_FOLDER,
        recipe=recipe_of(settings),
    )


def imported_config(pretrained: Pretrained, *, name: str) -> Config:
    """Make the config of an imported run; rows are no longer than the model's positions."""
    model: ModelConfig = from_dict(ModelConfig, pretrained.config, where="model")
    longest = model.bert.max_positions
    shapes, qa = ShapeConfig(), QaConfig()
    joint = min(shapes.joint_length, longest)
    query = min(shapes.query_length, max(longest // 4, 3), joint - 1)
    if "reader" in pretrained.params:
        public = reader_taken_over(pretrained.source, longest=longest)
        joint, query = public["reader_seq_len"], public["searcher_seq_len"]
        qa = replace(qa, loss="orqa", candidates=public["reader_beam_size"])
    shapes = replace(
        shapes, joint_length=joint, query_length=query, block_length=min(shapes.block_length, longest)
    )
    return Config(name=name, model=model, shapes=shapes, qa=qa)


def reader_taken_over(source: Source, *, longest: int) -> dict[str, int]:
    """Say how an imported reader is used: as its config says, within the model's positions.

    Args:
      source: the layout.
      longest: positions of the model.
    """
    said = reader_config(source.config)
    joint = min(said["reader_seq_len"], longest)
    return {**said, "reader_seq_len": joint, "searcher_seq_len": min(said["searcher_seq_len"], joint - 1)}


def export_run(
    params: Params,
    config: Config,
    out: Path,
    *,
    architecture: str | None,
    sidecar: Path,
    vocabulary: Path | None,
    block_embeddings: np.ndarray | None,
    corpus: Path | None,
) -> None:
    """Write a run as a public checkpoint.

    Args:
      params: all parts, by name.
      config: of the run.
      out: folder to create.
      architecture: public class, see `models.layout.architecture`; None takes the layout of the import.
      sidecar: folder of the import, or of the run itself.
      vocabulary: a vocab.txt to copy.
      block_embeddings: float32 `[N, D]` of the index, for RealmForOpenQA.
      corpus: folder of the corpus whose blocks they are, written beside them; None where it is not at hand.

    Raises:
      CheckpointError: no architecture is given and the run was not imported; see `export_pretrained` too.
      ConfigError: the class holds parts whose BERTs are of two sizes, or the corpus has other blocks.
    """
    model = to_dict(config.model)
    del model["dtype"]
    embedder_bert = model.pop("embedder_bert")
    if architecture is None:
        if not (sidecar / LAYOUT).is_file():
            raise CheckpointError(
                "an export takes the layout of an import, or the name of a public class",
                got=f"{sidecar}, which was not imported, and no class",
                remedy="Name one, such as --architecture RealmScorer.",
            )
        source, unread = load_sidecar(sidecar)
        parts = set(source.places)
    else:
        parts, unread = set(public_class(architecture, model).places), {}
    if embedder_bert["hidden_size"] and not parts <= set(READERS):
        if parts & set(READERS):
            raise ConfigError(
                "a public class holds BERTs of one size",
                got=f"model.embedder_bert of its own, for a class with {', '.join(sorted(parts))}",
                remedy="Export the embedder alone, with --architecture RealmEmbedder or RealmScorer.",
            )
        model["bert"] = embedder_bert
    if architecture is not None:
        source = source_for(architecture, model)
    source = with_reader_config(source, config)
    if block_embeddings is not None:
        unread = {**unread, BLOCK_EMBEDDINGS: np.asarray(block_embeddings, np.float32)}
    records: list[bytes] | None = None
    if corpus is not None and BLOCK_EMBEDDINGS in unread:
        records = _records(Corpus.open(corpus), count=len(unread[BLOCK_EMBEDDINGS]), run=sidecar)

    def complete(folder: Path) -> None:
        if records is not None:
            write_block_records(folder / BLOCK_RECORDS, records)

    export_pretrained(
        params, model, out, source=source, unread=unread, vocabulary=vocabulary, complete=complete
    )


def _records(corpus: Corpus, *, count: int, run: Path) -> list[bytes]:
    """Take the blocks of a corpus that `count` embeddings of a run are of."""
    check_run_vocabulary(run, corpus)
    if len(corpus) != count:
        raise ConfigError(
            f"the corpus holds the {count} blocks whose embeddings are written",
            got=f"{len(corpus)} blocks in {corpus.path}",
            remedy="Name the corpus they were embedded from with --corpus.",
        )
    return [corpus.text(block_id).body.encode() for block_id in range(len(corpus))]


def with_reader_config(source: Source, config: Config) -> Source:
    """Say in a public config.json how a run's reader is used, where that is not what would be taken from it.

    Args:
      source: the layout; one without a reader stays as it is.
      config: of the run.
    """
    if "reader" not in source.places:
        return source
    taken = reader_taken_over(source, longest=config.model.bert.max_positions)
    used = {
        "reader_seq_len": config.shapes.joint_length,
        "searcher_seq_len": config.shapes.query_length,
        "reader_beam_size": config.qa.candidates,
    }
    changed = {name: value for name, value in used.items() if value != taken[name]}
    return replace(source, config={**source.config, **changed})
