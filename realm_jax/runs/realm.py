"""REALM pre-training with a live refresher, and the reading warm-up before it."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config, RealmConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.streams import masked_stream
from realm_jax.index.protocol import Storage
from realm_jax.index.store import prune
from realm_jax.models.build import Models
from realm_jax.ops.marginal import MARGINALS
from realm_jax.ops.relevance import retrieval_log_prob, uniform_log_prob
from realm_jax.refresh.refresher import Refresher, Snapshot
from realm_jax.refresh.workers import WORKERS
from realm_jax.runs.candidates import CandidateSearch, query_embedder
from realm_jax.runs.live_index import (
    INDEX_FOLDER,
    IndexVersion,
    LiveIndex,
    block_embedder,
    build_version,
    load_version,
)
from realm_jax.runs.phase import Phase, check_same_run, read_record, run_phase
from realm_jax.runs.reading import (
    crop_to_target,
    evidence_first,
    holds_target,
    rows_with_evidence,
)
from realm_jax.runs.refreshing import RefreshHook
from realm_jax.runs.setup import check_vocabulary, initial_params, mesh_of, models_of, resolve
from realm_jax.runs.speed import Spent, step_flops
from realm_jax.text.swap import swap_facts
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.steps import realm_loss
from realm_jax.types import Candidates, MaskedBatch, Params

WEIGHTS = {"retrieval": retrieval_log_prob, "uniform": uniform_log_prob}


class RealmInputs:
    """Turn a batch of masked texts into the step's inputs: candidates found, facts swapped.

    Args:
      search: finds candidates; asked for `pool` of them where evidence comes first.
      live: the index in use.
      settings: the phase.
      text: corpus of the masked texts; gives the replacements.
      corpus: the searched corpus.
      candidates: K of the step.
      max_masks: M.
      seed: of the swaps; the swap of step s depends on (seed, s) alone.
    """

    def __init__(
        self,
        search: CandidateSearch,
        live: LiveIndex,
        *,
        settings: RealmConfig,
        text: Corpus,
        corpus: Corpus,
        candidates: int,
        max_masks: int,
        seed: int,
    ):
        self._search, self._live, self._settings = search, live, settings
        self._candidates, self._max_masks, self._seed = candidates, max_masks, seed
        self._tokenizer, self._block_spans = text.tokenizer, corpus.spans
        self._pool = text.span_pool() if settings.swap_probability > 0 else None

    def __call__(self, step: int, params: Params, batch: MaskedBatch) -> tuple[MaskedBatch, Candidates]:
        """Return the batch and its candidates `[B, K]`."""
        candidates = self._search(params, self._live.current.index, batch.query, batch.origin)
        settings = self._settings
        if settings.evidence_pool or settings.oversample > 1:
            evidence = holds_target(batch, candidates, self._tokenizer)
            batch, candidates, evidence = rows_with_evidence(
                batch, candidates, evidence, rows=settings.batch_size
            )
            if settings.evidence_pool:
                candidates = evidence_first(candidates, evidence, keep=self._candidates)
        rng = np.random.default_rng([self._seed, step])
        if self._pool is not None and rng.random() < settings.swap_probability:
            swapped = swap_facts(
                batch,
                candidates,
                self._pool,
                rng=rng,
                probability=settings.swap_share,
                max_masks=self._max_masks,
                mask_id=self._tokenizer.mask_id,
                block_spans=self._block_spans,
            )
            batch, candidates = swapped.batch, swapped.candidates
        if step < settings.window_steps:
            candidates = crop_to_target(
                batch, candidates, self._tokenizer, width=settings.evidence_window, rng=rng
            )
        return batch, candidates


def run_realm(
    config: Config,
    workdir: Path,
    *,
    phase_name: str = "realm",
    start_from: Path | None = None,
    stop_at: int | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Train retriever and encoder together, or, as phase `read`, warm the encoder up.

    Args:
      config: the experiment; `config.realm` or `config.read` is the phase.
      workdir: folder of the run; resumed if it holds a checkpoint.
      phase_name: `realm` or `read`.
      start_from: run folder to take parameters from; None starts from fresh ones.
      stop_at: stop after this step.
      trace_steps: steps recorded by the profiler.

    Returns:
      The last logged values.

    Source: REALM, section 3.
    """
    settings: RealmConfig = {"realm": config.realm, "read": config.read}[phase_name]
    corpus = Corpus.open(config.corpus)
    text = Corpus.open(config.text) if config.text else corpus
    check_vocabulary(text, corpus)
    config = resolve(config, corpus)
    mesh, models = (
        mesh_of(config, phase_name),
        models_of(config, rematerialisation=settings.rematerialisation),
    )
    params = initial_params(models, seed=config.seed, start_from=start_from, mesh=mesh)
    if settings.encoder_from_embedder:
        bert = jax.tree.map(jnp.copy, params[models.query_tower]["bert"])
        params = {**params, "encoder": {**params["encoder"], "bert": bert}}
    candidates = settings.candidates or config.shapes.candidates
    embed_queries = query_embedder(models, mesh)
    spent = Spent()
    search = CandidateSearch(
        embed_queries,
        corpus,
        candidates=settings.evidence_pool or candidates,
        extra=config.index.extra,
        null_block=config.shapes.null_block and not settings.evidence_pool,
        timed=partial(spent.on, "search"),
    )
    texts = partial(
        masked_stream,
        text,
        query_length=config.shapes.query_length,
        max_masks=config.shapes.max_masks,
        masker=settings.masker,
        same_corpus=text.content_hash == corpus.content_hash,
        seed=config.seed,
    )
    refresher, live = open_index(config, workdir, phase_name, models, params, corpus, settings, mesh)
    probes = next(texts(batch_size=config.refresh.probes))
    refresh = RefreshHook(
        refresher,
        live,
        tower=models.block_tower,
        root=workdir / INDEX_FOLDER,
        probe=lambda params: np.asarray(embed_queries(params, probes.query)),
        probe_k=candidates,
        keep_checkpoints=settings.keep_checkpoints,
    )
    inputs = RealmInputs(
        search,
        live,
        settings=settings,
        text=text,
        corpus=corpus,
        candidates=candidates,
        max_masks=config.shapes.max_masks,
        seed=config.seed,
    )
    loss = partial(
        realm_loss,
        models=models,
        block_length=config.shapes.block_length,
        joint_length=config.shapes.joint_length,
        marginal_loss=MARGINALS[settings.marginal],
        weigh=WEIGHTS[settings.weights],
    )
    phase = Phase(
        name=phase_name,
        settings=settings,
        flops=step_flops(config, phase_name, models),
        spent=spent,
        loss=loss,
        learning_rates=learning_rates(settings, models),
        stream=texts(batch_size=settings.batch_size * settings.oversample),
        inputs=inputs,
        hooks=[refresh],
        # An embedder that is not trained has an index that cannot grow stale.
        extra=refresh.values if settings.weights == "retrieval" else lambda step: {},
        record=refresh.record,
        pending=refresh.pending,
    )
    try:
        return run_phase(
            phase, params, config=config, workdir=workdir, stop_at=stop_at, mesh=mesh, trace_steps=trace_steps
        )
    finally:
        refresher.close()


def learning_rates(settings: RealmConfig, models: Models) -> dict[str, float]:
    """Choose what a phase trains: with uniform weights the encoder alone, else the retriever too."""
    rates = {"encoder": settings.optimizer.learning_rate}
    if settings.weights == "retrieval":
        retriever_rate = settings.retriever_learning_rate or settings.optimizer.learning_rate
        rates |= dict.fromkeys((models.query_tower, models.block_tower), retriever_rate)
    return rates


def open_index(
    config: Config,
    workdir: Path,
    phase_name: str,
    models: Models,
    params: Params,
    corpus: Corpus,
    settings: RealmConfig,
    mesh: Mesh | None = None,
) -> tuple[Refresher[IndexVersion], LiveIndex]:
    """Build the first version of the index, or open the one a checkpoint names and go on with its refresh.

    Raises:
      CheckpointError: the checkpoint is of another phase or config.
    """
    root = workdir / INDEX_FOLDER
    build = partial(
        build_version,
        embed=block_embedder(models, block_length=config.shapes.block_length, mesh=mesh),
        corpus=corpus,
        root=root,
        engine=config.index.engine,
        batch_size=config.index.embed_batch_size,
        recall_k=config.index.recall_k,
        recall_floor=config.index.recall_floor,
        recall_sample=config.index.recall_sample,
        storage=Storage(mesh, config.index.storage),
    )
    refresher = Refresher(
        build,
        WORKERS[config.refresh.worker](),
        every=config.refresh.every if settings.weights == "retrieval" else 0,
        lag=config.refresh.lag if config.refresh.adoption == "at_lag" else None,
        retries=config.refresh.retries,
    )
    block_params = {models.block_tower: params[models.block_tower]}
    record = read_record(workdir)
    if record is None:
        prune(root, keep=set())
        return refresher, LiveIndex(build(block_params, 0, lambda: False))
    check_same_run(record, name=phase_name, config=config)
    live = LiveIndex(load_version(root, record["index_version"], corpus=corpus, mesh=mesh))
    live.adopted = record["index_adopted"]
    if record["pending_step"] is not None:
        snapshot = Checkpoints(workdir).restore_pending(block_params)
        refresher.resume(Snapshot(record["pending_step"], snapshot))
    return refresher, live
