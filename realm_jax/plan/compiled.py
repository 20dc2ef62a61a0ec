"""The step compiled for a slice that is not there: memory and collectives are the TPU compiler's own."""

import importlib.util
import os
import re
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

from realm_jax.chips import give_compiler_stack
from realm_jax.config import Config
from realm_jax.errors import ConfigError, MissingExtra
from realm_jax.plan.apart import in_a_process
from realm_jax.plan.collectives import Collective, collectives_in
from realm_jax.plan.corpus_size import CorpusSize
from realm_jax.plan.job import Job, make_job
from realm_jax.plan.topology import Topology
from realm_jax.runs.ict import ict_objective
from realm_jax.runs.phase import make_phase_step
from realm_jax.runs.realm import objective
from realm_jax.runs.setup import mesh_of

# libtpu looks for a TPU, its host's metadata and other users of it; here there is none to be found.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
}
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}

_SIZE = r"([0-9.]+)([KMGT]?)"
_OUT_OF_MEMORY = (  # what is needed and what there is, as the compiler says it at two of its stages
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm"),
    re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)"),
)


@dataclass(frozen=True)
class CompiledStep:
    """What the compiler says of a step, bytes on one chip."""

    fits: bool
    needed: int  # at the peak: arguments, temporaries and the program
    arguments: int = 0  # state, inputs and store
    temporaries: int = 0
    code: int = 0
    collectives: tuple[Collective, ...] = ()
    available: int = 0  # where it does not fit: what the compiler has to give


def compile_step(job: Job) -> CompiledStep:
    """Compile the step of a job for its topology.

    Raises:
      ConfigError: the topology or the phase cannot be compiled for.
      MissingExtra: libtpu is not installed.
    """
    lowered = lower_step(job, slice_devices(job.topology))
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        return _too_large(error)
    memory = compiled.memory_analysis()
    needed = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
        + memory.generated_code_size_in_bytes
    )
    return CompiledStep(
        fits=True,
        needed=needed,
        arguments=memory.argument_size_in_bytes,
        temporaries=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        collectives=tuple(collectives_in(compiled.as_text())),
    )


def compile_apart(job: Job) -> CompiledStep:
    """Compile the step of a job as `compile_step` does, in a process of its own.

    Raises:
      CompilerError: the compiler crashed.
    """
    return in_a_process(_compile, job.config, job.phase, job.topology, job.corpus)


def _compile(config: Config, phase: str, topology: Topology, corpus: CorpusSize) -> CompiledStep:
    return compile_step(make_job(config, phase, topology, corpus))


def slice_devices(topology: Topology) -> list[jax.Device]:
    """Return the devices of a slice, to compile for and not to compute on.

    Raises:
      ConfigError: it is no TPU, or libtpu knows no such slice.
      MissingExtra: libtpu is not installed.
    """
    if not topology.is_tpu:
        raise ConfigError(
            "--compile asks the TPU compiler",
            got=topology.name,
            remedy="Leave it out: the counted plan is what there is for GPUs.",
        )
    if importlib.util.find_spec("libtpu") is None:
        raise MissingExtra(
            "--compile needs the TPU compiler, the package libtpu",
            got="an environment without it",
            remedy="Install it with `pip install -r requirements-tpu.txt`; no TPU is needed.",
        )
    give_compiler_stack(os.environ)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        description = topologies.get_topology_desc(
            topology.name,
            "tpu",
            chip_config_name=topology.chip.config,
            chips_per_host_bounds=(2, 2, 1) if topology.chips > 1 else (1, 1, 1),
        )
    except jax.errors.JaxRuntimeError as error:
        raise ConfigError(
            "a topology is a slice that libtpu knows",
            got=f"{topology.name} ({error})",
            remedy="Choose a shape that is sold.",
        ) from error
    return list(description.devices)


def lower_step(job: Job, devices: list[jax.Device]) -> Any:
    """Lower the very step that the loop runs, from shapes alone.

    Args:
      job: what is trained.
      devices: of its topology.

    Raises:
      ConfigError: the phase is fine-tuning, whose step depends on the questions.
    """
    if job.phase == "qa":
        raise ConfigError(
            "--compile takes the phases ict, read and realm",
            got=job.phase,
            remedy="Leave it out: the counted plan is what there is for fine-tuning.",
        )
    mesh, config = mesh_of(job.config, job.phase, devices), job.config
    if job.phase == "ict":
        what = {**ict_objective(config, job.models), "retrieve": None}
    else:
        what = objective(config, job.phase, job.models, count=job.corpus.blocks, mesh=mesh)
    _, step = make_phase_step(job.settings, job.params, **what, config=config, mesh=mesh)
    arguments = (job.state, *job.step_inputs(mesh))
    if mesh is None:
        here = SingleDeviceSharding(devices[0])
        arguments = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), arguments
        )
    return step.lower(*arguments)


def _too_large(error: Exception) -> CompiledStep:
    """Read what was needed from the compiler's refusal; any other error is raised again."""
    found = next(filter(None, (pattern.search(str(error)) for pattern in _OUT_OF_MEMORY)), None)
    if "RESOURCE_EXHAUSTED" not in str(error) or not found:
        raise error
    needed, needed_unit, available, available_unit = found.groups()
    return CompiledStep(
        fits=False,
        needed=round(float(needed) * UNITS[needed_unit]),
        available=round(float(available) * UNITS[available_unit]),
    )
