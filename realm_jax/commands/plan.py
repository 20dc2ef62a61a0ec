"""plan: what a run will need and cost."""

import argparse
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from realm_jax.commands.parsing import OptionalInt, OptionalPath, parse
from realm_jax.commands.training import base_config
from realm_jax.config import Config
from realm_jax.errors import ConfigError


@dataclass(frozen=True)
class Plan:
    """Say what a run will need and cost on a slice of TPUs or on GPUs, before it is paid for.

    Counts parameters, memory of a chip and of a host, FLOPs, time, and how old the index will get. No
    accelerator is touched. Where the experiment's corpus is prepared its size is taken, else Wikipedia's.
    With --compile the step that the loop would run is compiled for the slice by the TPU compiler, libtpu:
    its memory and its collectives are printed, and where it does not fit remedies are tried: microbatches,
    then rematerialisation, then fsdp.
    """

    # what is paid for: CHIP:SHAPE in chips, such as v5e:8x8, v6e:4x4, v4:2x2x4, v5p:2x2x2, h100:8, a100:8
    topology: str
    # Python file whose config() returns a Config
    experiment: Annotated[OptionalPath, arg(aliases=("--config",))] = None
    phase: Literal["ict", "read", "realm", "qa"] = "realm"  # which phase of the experiment
    # number of blocks (default: those of the corpus, or 13,353,718, the paper's Wikipedia)
    blocks: OptionalInt = None
    share: float = 0.45  # of the peak FLOP/s that training reaches
    embedding_share: float = 0.55  # of the peak FLOP/s that embedding blocks reaches
    refresh_steps: int = 500  # steps that a refresh should take, for the number of chips that embed
    compile: bool = False  # ask the TPU compiler too; takes minutes
    json: bool = False  # print JSON instead of tables
    config: Annotated[Config, arg(name="")] = field(default_factory=Config)


def plan(arguments: Sequence[str], *, prog: str) -> None:
    """Run the command `plan`."""
    options = _parse(arguments, prog=prog)
    _check(options)
    import jax

    jax.config.update("jax_platforms", "cpu")  # one that is here is none of what is planned for

    from realm_jax.inspect.tables import show
    from realm_jax.plan.compiled import compile_apart, slice_devices
    from realm_jax.plan.corpus_size import corpus_size
    from realm_jax.plan.estimate import Assumptions, estimate
    from realm_jax.plan.job import make_job
    from realm_jax.plan.remedies import Attempt, attempts, remedy
    from realm_jax.plan.tables import attempt_view, estimate_view, verdict_view
    from realm_jax.plan.topology import parse_topology

    topology = parse_topology(options.topology)
    if options.compile:
        slice_devices(topology)  # says at once what is missing
    size = corpus_size(options.config, blocks=options.blocks)
    job = make_job(options.config, options.phase, topology, size)
    assumed = Assumptions(options.share, options.embedding_share, options.refresh_steps)
    found = estimate(job, assumed)
    if not options.json:
        show(estimate_view(found))
    tried: list[Attempt] = []
    for attempt in attempts(job, compile_apart) if options.compile else ():
        tried.append(attempt)
        if not options.json:
            show(attempt_view(tried[0], attempt))
    if options.json:
        said: dict[str, Any] = found.to_json()
        if tried:
            said["attempts"] = [
                {
                    "options": remedy(job, one.job),
                    "counted": one.counted,
                    **({"fits": False} if one.compiled is None else dataclasses.asdict(one.compiled)),
                    "collectives": [each._asdict() for each in one.compiled.collectives]
                    if one.compiled
                    else [],
                }
                for one in tried
            ]
        print(json.dumps(said, indent=2))
    elif tried:
        show(verdict_view(tried))


def _parse(arguments: Sequence[str], *, prog: str) -> Plan:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--experiment", "--config", type=Path)
    known, _ = first.parse_known_args([word for word in arguments if word not in ("-h", "--help")])
    base = base_config(known.experiment, None)
    default = None
    if base is not None:
        import tyro

        default = Plan(topology=tyro.MISSING, config=base)
    return parse(
        Plan,
        arguments,
        prog=prog,
        default=default,
        examples="""
        realm_jax plan --experiment experiments/realm_wiki.py --topology v5e:8x8
        realm_jax plan --experiment experiments/realm_wiki.py --topology v6e:4x4 --compile
        realm_jax plan --experiment experiments/ict_wiki.py --phase ict --topology h100:8 --json
        """,
    )


def _check(options: Plan) -> None:
    """Refuse numbers that nothing can be counted with."""
    for name in ("share", "embedding_share"):
        if not 0 < getattr(options, name) <= 1:
            raise ConfigError(
                f"--{name.replace('_', '-')} is a share of the peak",
                got=getattr(options, name),
                remedy="0.45 in training and 0.55 in embedding are what a good run reaches.",
            )
    for name in ("blocks", "refresh_steps"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise ConfigError(f"--{name.replace('_', '-')} is at least 1", got=value, remedy="Raise it.")
