"""The analytic plan: memory, work and time of a run, counted from its sizes.

It needs no accelerator and no corpus.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from realm_jax.models.flops import embedder_flops
from realm_jax.plan.job import Job
from realm_jax.plan.memory import (
    POLICIES,
    ChipMemory,
    chip_memory,
    count_of,
    kept_bytes,
    searches_on_chips,
)
from realm_jax.runs.setup import refreshes
from realm_jax.runs.speed import step_flops
from realm_jax.train.state import picked

MOST_MICROBATCHES = 16  # of the alternatives that are shown


@dataclass(frozen=True)
class Assumptions:
    """What cannot be counted."""

    step_share: float  # of the peak, while training
    embedding_share: float  # of the peak, while embedding blocks
    refresh_steps: int  # how many steps a refresh should take


@dataclass(frozen=True)
class Alternative:
    """Memory of the step under another policy and number of microbatches."""

    rematerialisation: str
    microbatches: int
    chip_bytes: int
    fits: bool


@dataclass(frozen=True)
class Refreshing:
    """How old the index gets. Staleness is counted in steps since the snapshot of the version in use."""

    flops: float  # of embedding all blocks
    seconds: float  # from snapshot to adoption
    steps: float  # the same, in steps
    period: float  # steps between two snapshots
    staleness: tuple[float, float, float]  # at adoption, mean, just before the next adoption
    chips: int  # of these that should only embed, for a refresh to take `refresh_steps`
    further_chips: int  # the same, were they beside these and not of them


@dataclass(frozen=True)
class Estimate:
    """The analytic plan of a job."""

    job: Job
    assumptions: Assumptions
    parameters: Mapping[str, int]  # numbers, by part
    trained: int  # of them
    memory: ChipMemory
    alternatives: tuple[Alternative, ...]
    host_embeddings: int  # bytes a host, of the index version in use
    host_tokens: int  # bytes a host, memory-mapped
    step_flops: int
    search_flops: int  # of scoring all blocks on the chips, a step
    step_seconds: float
    exchange_seconds: (
        float  # part of it: of summing the gradients over all chips, at the speed of their links
    )
    run_seconds: float
    refreshing: Refreshing | None  # None: the index is not refreshed

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.job.topology.chip.memory

    def to_json(self) -> dict[str, Any]:
        """Return everything in JSON types."""
        job, topology = self.job, self.job.topology
        chip = topology.chip
        return {
            "experiment": job.config.name,
            "phase": job.phase,
            "topology": topology.name,
            "accelerator_type": topology.accelerator_type,
            "chips": topology.chips,
            "tensor_cores": topology.chips * chip.cores if topology.is_tpu else None,
            "hosts": topology.hosts,
            "chip_memory_bytes": chip.memory,
            "chip_peak_flops": chip.peak,
            "mesh": job.axis_sizes,
            "blocks": job.corpus.blocks,
            "corpus_is_assumed": not job.corpus.known,
            "microbatches": job.settings.microbatches,
            "rematerialisation": job.settings.rematerialisation,
            "parameters": {**self.parameters, "all": sum(self.parameters.values()), "trained": self.trained},
            "chip_bytes": {**asdict(self.memory), "total": self.memory.total},
            "fits": self.fits,
            "alternatives": [asdict(one) for one in self.alternatives],
            "host_bytes": {"embeddings": self.host_embeddings, "tokens": self.host_tokens},
            "assumptions": asdict(self.assumptions),
            "step_flops": self.step_flops,
            "search_flops": self.search_flops,
            "step_seconds": self.step_seconds,
            "exchange_seconds": self.exchange_seconds,
            "steps": job.settings.steps,
            "run_seconds": self.run_seconds,
            "chip_hours": topology.chips * self.run_seconds / 3600,
            "refreshing": asdict(self.refreshing) if self.refreshing else None,
        }


def estimate(job: Job, assumptions: Assumptions) -> Estimate:
    """Plan a job.

    Args:
      job: the phase and its topology.
      assumptions: shares of the peak that are reached.
    """
    config, size, chip = job.config, job.corpus, job.topology.chip
    dimension = job.embedding_size
    flops = step_flops(config, job.phase, job.models)
    search = 2 * job.settings.batch_size * size.blocks * dimension if searches_on_chips(job) else 0
    step_seconds = (flops + search) / (job.training * chip.peak * assumptions.step_share)
    refreshing = _refreshing(job, flops + search, step_seconds, assumptions)
    trained = sum(count_of(picked(job.params, name)) for name in job.rates)
    memory = chip_memory(job)
    searched = job.phase != "ict" and not (job.phase == "qa" and config.qa.retriever == "bm25")
    return Estimate(
        job=job,
        assumptions=assumptions,
        parameters={name: count_of(part) for name, part in job.params.items()},
        trained=trained,
        memory=memory,
        alternatives=alternatives(job, memory),
        # ScaNN keeps rows of its own beside those of the version in use.
        host_embeddings=searched * size.blocks * dimension * 4 * (2 if config.index.engine == "scann" else 1),
        host_tokens=size.blocks * size.row_bytes,
        step_flops=flops,
        search_flops=search,
        step_seconds=step_seconds,
        # In a ring every chip sends all of them twice, once to add up and once to hand out.
        exchange_seconds=2 * 4 * trained / chip.link if job.training > 1 else 0.0,
        run_seconds=_run_seconds(job, step_seconds, refreshing),
        refreshing=refreshing,
    )


def alternatives(job: Job, memory: ChipMemory) -> tuple[Alternative, ...]:
    """Count the memory of every policy with 1, 2, 4, ... microbatches that the batch can be taken in.

    Args:
      job: the phase and its topology.
      memory: of the job as it is; what the backward pass keeps is all that changes.
    """
    rows = job.settings.batch_size // job.shards
    found = []
    for policy in POLICIES:
        for count in (2**n for n in range(int(math.log2(MOST_MICROBATCHES)) + 1)):
            if rows % count == 0:
                kept, again = kept_bytes(job.changed(rematerialisation=policy, microbatches=count))
                total = replace(memory, activations=kept, recomputed=again).total
                found.append(Alternative(policy, count, total, total <= job.topology.chip.memory))
    return tuple(found)


def refresh_steps(
    *, refresh_flops: float, step_flops: float, training: float, embedding: float, speedup: float
) -> float:
    """Say how many steps pass while all blocks are embedded.

    Args:
      refresh_flops: of embedding all blocks.
      step_flops: of a step.
      training, embedding: chips that do each.
      speedup: share of the peak reached in embedding, over that reached in training.
    """
    return refresh_flops * training / (step_flops * embedding * speedup)


def chips_for(
    steps: float, *, refresh_flops: float, step_flops: float, chips: int, speedup: float, within: bool
) -> int:
    """Choose how many chips embed, for a refresh to take about so many steps.

    Args:
      steps: that a refresh may take.
      refresh_flops, step_flops, speedup: as in `refresh_steps`.
      chips: of the slice.
      within: they are taken from the slice, and train no more; else they are further ones.

    Returns:
      At least one; within a slice, all but one at most.
    """
    ratio = refresh_flops / (step_flops * speedup * steps)  # embedding chips for each that trains
    if not within:
        return max(1, round(ratio * chips))
    return min(max(1, round(chips * ratio / (1 + ratio))), max(1, chips - 1))


def _refreshing(job: Job, flops: int, step_seconds: float, assumptions: Assumptions) -> Refreshing | None:
    if not refreshes(job.config, job.phase):
        return None
    settings, size, chips = job.config.refresh, job.corpus, job.topology.chips
    row = embedder_flops(job.models.embedder, rows=1, length=round(size.embedded_length))
    total = row * size.blocks
    speedup = assumptions.embedding_share / assumptions.step_share
    sizes: dict[str, Any] = {"refresh_flops": total, "step_flops": flops, "speedup": speedup}
    # Beside training on the same devices each has half of their time: in steps it is as if it had it all.
    embedding = settings.devices or job.training
    part = total / settings.rolling
    steps = refresh_steps(**{**sizes, "refresh_flops": part}, training=job.training, embedding=embedding)
    if settings.worker == "inline":
        age = 0.0  # training waits
    else:
        age = float(settings.lag) if settings.adoption == "at_lag" else steps
    period = settings.every * max(1, math.ceil(age / settings.every))
    shared = settings.worker == "thread"
    alone = part / (embedding * job.topology.chip.peak * assumptions.embedding_share)
    # With rolling parts the oldest block waits for all others to have had their turn.
    oldest = age + period * settings.rolling
    want = {**sizes, "refresh_flops": part, "chips": chips}
    return Refreshing(
        flops=total,
        seconds=alone * (2 if shared else 1),
        steps=steps,
        period=period,
        staleness=(age, (age + oldest) / 2, oldest),
        chips=chips_for(assumptions.refresh_steps, **want, within=True),
        further_chips=chips_for(assumptions.refresh_steps, **want, within=False),
    )


def _run_seconds(job: Job, step_seconds: float, refreshing: Refreshing | None) -> float:
    seconds = job.settings.steps * step_seconds
    if refreshing is None:
        return seconds
    refresh = job.config.refresh
    if refresh.worker not in ("thread", "inline"):
        # Others embed; under at_lag they are waited for where they take longer than the lag.
        late = refreshing.seconds - refresh.lag * step_seconds if refresh.adoption == "at_lag" else 0.0
        return seconds + job.settings.steps / refreshing.period * max(0.0, late)
    # The devices that train also embed: what they embed is added.
    busy = refreshing.steps * step_seconds
    return seconds + job.settings.steps / refreshing.period * busy
