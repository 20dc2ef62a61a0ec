"""REALM pre-training with a live refresher, and the reading warm-up before it."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from realm_jax.config import Config, RealmConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.streams import masked_stream
from realm_jax.hosts.rows import EVERY_ROW, BatchShare
from realm_jax.index.protocol import Storage
from realm_jax.index.stored_blocks import keep_blocks
from realm_jax.models.build import Models
from realm_jax.models.reader import SPAN_SCORER
from realm_jax.ops.marginal import MARGINALS
from realm_jax.ops.relevance import retrieval_log_prob, uniform_log_prob
from realm_jax.runs.ahead import Ahead, StepInputs, inputs_worker
from realm_jax.runs.candidates import CandidateSearch, EmbedQueries, embed_probes, query_embedder
from realm_jax.runs.fused import FusedInputs, check_fused, is_fused
from realm_jax.runs.live_index import INDEX_FOLDER, LiveIndex
from realm_jax.runs.phase import Phase, run_phase
from realm_jax.runs.reading import (
    crop_to_target,
    evidence_first,
    find_targets,
    holds_target,
    rows_with_evidence,
)
from realm_jax.runs.refreshing import RefreshHook, open_live_index, saved_versions
from realm_jax.runs.setup import (
    candidates_read,
    check_one_size,
    check_vocabulary,
    initial_params,
    mesh_of,
    models_of,
    resolve,
)
from realm_jax.runs.speed import Spent, step_flops
from realm_jax.text.swap import swap_facts
from realm_jax.train.accumulate import by_sums
from realm_jax.train.fused import retrieve
from realm_jax.train.steps import realm_loss
from realm_jax.types import Array, MaskedBatch, Params

WEIGHTS = {"retrieval": retrieval_log_prob, "uniform": uniform_log_prob}


class RealmInputs:
    """Turn a batch of masked texts into the step's inputs: candidates found, facts swapped.

    Args:
      embed: from `query_embedder`.
      search: finds candidates; asked for `pool` of them where evidence comes first.
      live: the index in use.
      settings: the phase.
      text: corpus of the masked texts; gives the replacements.
      corpus: the searched corpus.
      candidates: K of the step.
      max_masks: M.
      seed: of the swaps; the swap of step s depends on (seed, s) alone.
      share: what this process reads of a batch.
    """

    def __init__(
        self,
        embed: EmbedQueries,
        search: CandidateSearch,
        live: LiveIndex,
        *,
        settings: RealmConfig,
        text: Corpus,
        corpus: Corpus,
        candidates: int,
        max_masks: int,
        seed: int,
        share: BatchShare = EVERY_ROW,
    ):
        self._share = share
        self._embed, self._search, self._live, self._settings = embed, search, live, settings
        self._candidates, self._max_masks, self._seed = candidates, max_masks, seed
        self._tokenizer, self._block_spans = text.tokenizer, corpus.spans
        self._pool = text.span_pool() if settings.swap_probability > 0 else None

    def begin(self, params: Params, batch: MaskedBatch) -> Array:
        """Start to embed the texts."""
        return self._embed(params, self._share.own(batch.query))

    def finish(self, step: int, batch: MaskedBatch, begun: Array | None) -> tuple:
        """Return the batch, its candidates `[B, K]` and, for the span loss, where the masked tokens stand."""
        candidates = self._search(self._live.current.index, begun, batch.origin)
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
            batch, candidates = swap_facts(
                batch,
                candidates,
                self._pool,
                rng=rng,
                probability=settings.swap_share,
                max_masks=self._max_masks,
                mask_id=self._tokenizer.mask_id,
                block_spans=self._block_spans,
            )
        if step < settings.window_steps:
            candidates = crop_to_target(
                batch, candidates, self._tokenizer, width=settings.evidence_window, rng=rng
            )
        batch, candidates = self._share.own((batch, candidates))
        if settings.span_weight:
            return batch, candidates, find_targets(batch, candidates, self._tokenizer)
        return batch, candidates


def run_realm(
    config: Config,
    workdir: Path,
    *,
    phase_name: str = "realm",
    start_from: Path | None = None,
    encoder_from: Path | None = None,
    stop_at: int | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Train retriever and encoder together, or, as phase `read`, warm the encoder up.

    Args:
      config: the experiment; `config.realm` or `config.read` is the phase.
      workdir: folder of the run; resumed if it holds a checkpoint.
      phase_name: `realm` or `read`.
      start_from: run folder to take parameters from; None starts from fresh ones.
      encoder_from: run folder to take encoder and reader from instead.
      stop_at: stop after this step.
      trace_steps: steps recorded by the profiler.

    Returns:
      The last logged values.

    Source: REALM, section 3.
    """
    settings = settings_of(config, phase_name)
    fused = is_fused(config, phase_name)
    if fused:
        check_fused(settings, phase_name=phase_name)
    corpus = Corpus.open(config.corpus)
    text = Corpus.open(config.text) if config.text else corpus
    check_vocabulary(text, corpus)
    config = resolve(config, corpus)
    mesh = mesh_of(config, phase_name)
    models = models_of(config, rematerialisation=settings.rematerialisation)
    params = initial_params(
        models, seed=config.seed, start_from=start_from, encoder_from=encoder_from, mesh=mesh
    )
    if settings.encoder_from_embedder:
        check_one_size(config, encoder_from)
        bert = jax.tree.map(jnp.copy, params[models.query_tower]["bert"])
        params = {**params, "encoder": {**params["encoder"], "bert": bert}}
    embed_queries = query_embedder(models, mesh)
    share = BatchShare(mesh, whole=draws_for_batches(settings))
    spent = Spent()
    texts = partial(
        masked_stream,
        text,
        query_length=config.shapes.query_length,
        max_masks=config.shapes.max_masks,
        masker=settings.masker,
        same_corpus=text.content_hash == corpus.content_hash,
        seed=config.seed,
    )
    trains_retriever = settings.weights == "retrieval"
    saved = saved_versions(workdir)
    refresher, live = open_live_index(
        config,
        workdir,
        phase_name=phase_name,
        models=models,
        params=params,
        corpus=corpus,
        # An embedder that is not trained has an index that cannot grow stale.
        every=config.refresh.every if trains_retriever else 0,
        mesh=mesh,
    )
    probes = next(texts(batch_size=config.refresh.probes))
    refresh = RefreshHook(
        refresher,
        live,
        tower=models.block_tower,
        root=workdir / INDEX_FOLDER,
        probe=embed_probes(embed_queries, probes.query, mesh),
        probe_k=candidates_read(config, phase_name),
        keep_checkpoints=settings.keep_checkpoints,
        saved=saved,
    )
    inputs = _step_inputs(
        config,
        phase_name,
        embed=embed_queries,
        live=live,
        text=text,
        corpus=corpus,
        mesh=mesh,
        share=share,
        spent=spent,
    )
    rows = settings.batch_size * settings.oversample
    ahead = Ahead(
        texts(batch_size=rows, rows=share.drawn(rows)),
        inputs,
        inputs_worker(ahead=settings.ahead and not fused),
        version=lambda: live.current.version,
    )
    phase = Phase(
        name=phase_name,
        settings=settings,
        flops=step_flops(config, phase_name, models),
        spent=spent,
        **objective(config, phase_name, models, count=len(corpus), mesh=mesh),
        stream=ahead,
        inputs=ahead,
        **refresh.in_phase(values=trains_retriever, more=ahead.values),
    )
    with closing(refresher), closing(ahead):
        return run_phase(
            phase, params, config=config, workdir=workdir, stop_at=stop_at, mesh=mesh, trace_steps=trace_steps
        )


def _step_inputs(
    config: Config,
    phase_name: str,
    *,
    embed: EmbedQueries,
    live: LiveIndex,
    text: Corpus,
    corpus: Corpus,
    mesh: Mesh | None,
    share: BatchShare,
    spent: Spent,
) -> StepInputs:
    """Choose who finds the candidates: the step itself, or this host."""
    if is_fused(config, phase_name):
        return FusedInputs(keep_blocks(corpus, mesh=mesh), live, storage=Storage(mesh, config.index.storage))
    settings, candidates = settings_of(config, phase_name), candidates_read(config, phase_name)
    search = CandidateSearch(
        corpus,
        candidates=settings.evidence_pool or candidates,
        extra=config.index.extra,
        null_block=config.shapes.null_block and not settings.evidence_pool,
        timed=partial(spent.on, "search"),
        share=share,
    )
    return RealmInputs(
        embed,
        search,
        live,
        settings=settings,
        text=text,
        corpus=corpus,
        candidates=candidates,
        max_masks=config.shapes.max_masks,
        seed=config.seed,
        share=share,
    )


def as_it_is(log_prob: Array) -> Array:
    """Return log p(z|x) with its gradient."""
    return log_prob


def draws_for_batches(settings: RealmConfig) -> bool:
    """Say whether a phase chooses among the rows of a batch, or draws for all of them together."""
    return bool(settings.swap_probability or settings.window_steps or settings.oversample > 1)


def settings_of(config: Config, phase_name: str) -> RealmConfig:
    """Return the settings of phase `realm` or `read`."""
    return {"realm": config.realm, "read": config.read}[phase_name]


def objective(
    config: Config, phase_name: str, models: Models, *, count: int, mesh: Mesh | None
) -> dict[str, Any]:
    """Return the arguments of `Phase` that say what its step computes; no corpus is needed.

    Args:
      config: the resolved config.
      phase_name: `realm` or `read`.
      models: its models.
      count: blocks of the corpus.
      mesh: the devices; None is the default device.

    Returns:
      `loss`, `accumulate`, `learning_rates` and `retrieve`.
    """
    settings, shapes = settings_of(config, phase_name), config.shapes
    find = partial(
        retrieve,
        models=models,
        count=count,
        candidates=candidates_read(config, phase_name),
        extra=config.index.extra,
        null_block=shapes.null_block,
        mesh=mesh,
    )
    loss = partial(
        realm_loss,
        models=models,
        block_length=shapes.block_length,
        joint_length=shapes.joint_length,
        marginal_loss=MARGINALS[settings.marginal],
        weigh=WEIGHTS[settings.weights],
        span_weight=settings.span_weight,
        span_relevance=as_it_is if settings.pointing_trains_retriever else jax.lax.stop_gradient,
    )
    further = {"span_loss": settings.span_weight} if settings.span_weight else {}
    return {
        "loss": loss,
        "accumulate": partial(by_sums, further=further),
        "learning_rates": learning_rates(settings, models),
        "retrieve": find if is_fused(config, phase_name) else None,
    }


def learning_rates(settings: RealmConfig, models: Models) -> dict[str, float]:
    """Choose what a phase trains: with uniform weights the encoder alone, else the retriever too."""
    rate = settings.optimizer.learning_rate
    rates = {"encoder": rate}
    if settings.span_weight:
        rates |= {f"reader/{module}": rate for module in SPAN_SCORER}
    if settings.weights == "retrieval":
        retriever_rate = settings.retriever_learning_rate or rate
        rates |= dict.fromkeys((models.query_tower, models.block_tower), retriever_rate)
    return rates
