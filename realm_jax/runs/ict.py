"""The inverse cloze task: the warm start of the embedder."""

from functools import partial
from pathlib import Path
from typing import Any

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.data.streams import ict_stream
from realm_jax.hosts.rows import BatchShare
from realm_jax.models.build import Models
from realm_jax.runs.phase import Phase, run_phase
from realm_jax.runs.setup import initial_params, mesh_of, models_of, resolve
from realm_jax.runs.speed import step_flops
from realm_jax.train.accumulate import by_embeddings
from realm_jax.train.steps import ict_contrast, ict_embeddings, ict_loss


def run_ict(
    config: Config,
    workdir: Path,
    *,
    start_from: Path | None = None,
    encoder_from: Path | None = None,
    stop_at: int | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Train the embedder on pseudo-queries of the searched corpus.

    Args:
      config: the experiment; `config.ict` is the phase.
      workdir: folder of the run; resumed if it holds a checkpoint.
      start_from: run folder to take parameters from; None starts from fresh ones.
      encoder_from: run folder to take encoder and reader from instead.
      stop_at: stop after this step.
      trace_steps: steps recorded by the profiler.

    Returns:
      The last logged values.

    Source: ORQA, section 6 (Lee et al. 2019).
    """
    corpus = Corpus.open(config.corpus)
    config = resolve(config, corpus)
    mesh, models = mesh_of(config, "ict"), models_of(config, rematerialisation=config.ict.rematerialisation)
    phase = Phase(
        name="ict",
        settings=config.ict,
        flops=step_flops(config, "ict", models),
        **ict_objective(config, models),
        stream=ict_stream(
            corpus,
            batch_size=config.ict.batch_size,
            rows=BatchShare(mesh).drawn(config.ict.batch_size),
            query_length=config.shapes.query_length,
            keep_probability=config.ict.keep_probability,
            seed=config.seed,
        ),
        inputs=lambda step, params, batch: (batch,),
    )
    params = initial_params(
        models, seed=config.seed, start_from=start_from, encoder_from=encoder_from, mesh=mesh
    )
    return run_phase(
        phase, params, config=config, workdir=workdir, stop_at=stop_at, mesh=mesh, trace_steps=trace_steps
    )


def ict_objective(config: Config, models: Models) -> dict[str, Any]:
    """Return what the step computes: `loss`, `accumulate` and `learning_rates` of `Phase`.

    Args:
      config: the resolved config.
      models: its models.
    """
    embed = partial(ict_embeddings, models=models, block_length=config.shapes.block_length)
    towers = dict.fromkeys((models.query_tower, models.block_tower))
    return {
        "loss": partial(ict_loss, models=models, block_length=config.shapes.block_length),
        # Every pseudo-query is told from all blocks of the batch, not from those of its microbatch.
        "accumulate": partial(by_embeddings, embed=embed, contrast=ict_contrast),
        "learning_rates": {name: config.ict.optimizer.learning_rate for name in towers},
    }
