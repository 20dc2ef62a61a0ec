"""What makes a step fit that does not: microbatches, then rematerialisation, then fsdp."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from realm_jax.errors import ConfigError
from realm_jax.plan.compiled import CompiledStep
from realm_jax.plan.job import Job
from realm_jax.plan.memory import POLICIES, chip_memory

# Counted memory is above what the compiler needs, but not by this factor: beyond it a try is a waste.
HOPELESS = 3


class Attempt(NamedTuple):
    """One try."""

    job: Job
    counted: int  # bytes on one chip
    compiled: CompiledStep | None  # None: counted as hopeless, not compiled

    @property
    def fits(self) -> bool:
        return self.compiled is not None and self.compiled.fits


def attempts(job: Job, compile_step: Callable[[Job], CompiledStep]) -> Iterator[Attempt]:
    """Compile a job, and while it does not fit, the remedies in order, each on top of those before.

    Args:
      job: as it was asked for; it is always compiled.
      compile_step: asks the compiler.

    Yields:
      One attempt after the other; the last one fits, unless nothing does.
    """
    attempt = Attempt(job, chip_memory(job).total, compile_step(job))
    yield attempt
    for changed in remedies(job):
        if attempt.fits:
            return
        counted = chip_memory(changed).total
        hopeless = counted > HOPELESS * job.topology.chip.memory
        attempt = Attempt(changed, counted, None if hopeless else compile_step(changed))
        yield attempt


def remedies(job: Job) -> Iterator[Job]:
    """List the jobs that need less and less memory, each with one change more than the one before."""
    count = 2 * job.settings.microbatches
    while (smaller := _allowed(job, microbatches=count)) is not None:
        yield smaller
        job, count = smaller, 2 * count
    for policy in POLICIES[POLICIES.index(job.settings.rematerialisation) + 1 :]:
        job = job.changed(rematerialisation=policy)
        yield job
    fsdp = 2 * job.config.mesh.fsdp
    while (split := _allowed(job, mesh={"fsdp": fsdp, "data": 0})) is not None:
        yield split
        job, fsdp = split, 2 * fsdp


def remedy(before: Job, after: Job) -> str:
    """Say what was changed, as options of the command line."""
    phase, old, new = after.phase, before.settings, after.settings
    said = [
        f"--{phase}.{name} {getattr(new, name)}"
        for name in ("microbatches", "rematerialisation")
        if getattr(new, name) != getattr(old, name)
    ]
    if before.config.mesh.fsdp != after.config.mesh.fsdp:
        said.append(f"--mesh.fsdp {after.config.mesh.fsdp}")
    return " ".join(said)


def _allowed(job: Job, **changes: Any) -> Job | None:
    try:
        return job.changed(**changes)
    except ConfigError:
        return None
