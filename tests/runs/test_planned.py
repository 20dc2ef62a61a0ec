"""What is planned is what is run: a step lowered from shapes alone is that of the loop, line for line."""

import dataclasses
import re
from functools import partial

import jax
import pytest

import realm_jax.runs.phase
from realm_jax.config import MeshConfig
from realm_jax.plan.compiled import lower_step
from realm_jax.plan.corpus_size import corpus_size
from realm_jax.plan.job import make_job
from realm_jax.plan.topology import parse_topology
from realm_jax.runs.ict import run_ict
from realm_jax.runs.realm import run_realm


def ict(config):
    return "ict", run_ict, dataclasses.replace(config, ict=dataclasses.replace(config.ict, batch_size=8))


def reading(config):
    """With the places of the masked tokens as a further input."""
    read = dataclasses.replace(
        config.realm,
        batch_size=8,
        weights="uniform",
        span_weight=0.5,
        microbatches=2,
        rematerialisation="full",
    )
    return "read", partial(run_realm, phase_name="read"), dataclasses.replace(config, read=read)


def fused(config):
    changed = dataclasses.replace(
        config,
        index=dataclasses.replace(config.index, engine="fused", storage="bfloat16"),
        realm=dataclasses.replace(config.realm, batch_size=8),
    )
    return "realm", run_realm, changed


def main_of(lowered) -> str:
    """Return the program; what it calls is numbered by earlier traces: without those numbers."""
    text = lowered.as_text()
    start = text.index("func.func public @main")
    main = text[start : text.find("func.func private", start)]
    return re.sub(r"@(\w+?)_\d+\b", r"@\1", main)


@pytest.mark.parametrize("case", [ict, reading, fused])
def test_the_planned_step_is_the_one_that_is_run(case, make_config, tmp_path, monkeypatch):
    phase, run, config = case(make_config(every=3, worker="inline"))
    config = dataclasses.replace(config, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    seen = {}

    def first_step(state, *, stream, inputs, step_fn, **rest):
        del rest
        seen["run"] = main_of(step_fn.lower(state, *inputs(0, state.params, next(stream))))
        return state

    monkeypatch.setattr(realm_jax.runs.phase, "train", first_step)
    run(config, tmp_path / "run")
    job = make_job(config, phase, parse_topology("v5e:2x4"), corpus_size(config))
    assert main_of(lower_step(job, jax.devices())) == seen["run"]
