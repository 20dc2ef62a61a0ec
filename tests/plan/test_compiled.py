"""The TPU compiler asked without a TPU; skipped where its package is not installed."""

import importlib.util

import jax
import pytest

from realm_jax.errors import ConfigError, MissingExtra
from realm_jax.plan import compiled
from realm_jax.plan.compiled import compile_step, lower_step, slice_devices
from realm_jax.plan.memory import chip_memory
from realm_jax.plan.remedies import attempts
from realm_jax.plan.tables import verdict_view
from realm_jax.plan.topology import parse_topology
from tests.plan.small import small_job

with_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (requirements-tpu.txt)"
)


@with_libtpu
@pytest.mark.parametrize("name", ["v4:2x2x2", "v5e:2x4", "v5p:2x2x2", "v6e:2x4", "v5e:1x1"])
def test_a_chip_is_one_device_whatever_its_cores(name):
    topology = parse_topology(name)
    devices = slice_devices(topology)
    assert len(devices) == topology.chips
    assert {device.device_kind for device in devices} == {topology.chip.kind}


@with_libtpu
def test_a_small_step_compiles_and_its_arguments_are_those_counted():
    """State, inputs and store lie on a chip as counted, but for the padding of their tiles."""
    job = small_job("v5e:2x2")
    (attempt,) = attempts(job, compile_step)
    found, memory = attempt.compiled, chip_memory(job)
    assert found.fits and found.needed < job.topology.chip.memory
    counted = memory.parameters + memory.optimizer + memory.inputs + memory.index + memory.tokens
    assert counted <= found.arguments < 40 * counted
    assert {"all-reduce"} <= {one.name for one in found.collectives}
    assert all(one.bytes > 0 for one in found.collectives)


@with_libtpu
def test_a_step_that_no_chip_can_hold_is_refused_by_the_compiler():
    """The blocks alone are twice a chip's memory; no remedy changes that, and the verdict says so."""
    job = small_job("v5e:2x2", blocks=2_000_000_000)
    made = list(attempts(job, compile_step))
    assert not any(attempt.fits for attempt in made)
    first = made[0].compiled
    assert first is not None and first.needed > first.available > 14 * 2**30
    assert "does not fit" in verdict_view(made).plain


def test_without_libtpu_the_remedy_is_said(monkeypatch):
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="pip install -r requirements-tpu.txt"):
        slice_devices(parse_topology("v5e:2x2"))


def test_gpus_and_fine_tuning_are_counted_only():
    with pytest.raises(ConfigError, match="asks the TPU compiler"):
        slice_devices(parse_topology("h100:8"))
    with pytest.raises(ConfigError, match="phases ict, read and realm"):
        lower_step(small_job(phase="qa"), jax.devices())


@pytest.mark.parametrize(
    "said",
    [
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. "
        "Used 21.50G of 15.75G hbm. Exceeded hbm capacity by 5.75G.",
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
        "(21.50G) exceeds available HBM (15.75G).",
    ],
)
def test_what_the_compiler_refuses_says_how_much_it_lacks(monkeypatch, said):

    class Lowered:
        def __init__(self, message):
            self.message = message

        def compile(self):
            raise jax.errors.JaxRuntimeError(self.message)

    monkeypatch.setattr(compiled, "slice_devices", lambda topology: [])
    monkeypatch.setattr(compiled, "lower_step", lambda job, devices: Lowered(said))
    found = compile_step(small_job())
    assert not found.fits and (found.needed, found.available) == (21.5 * 2**30, 15.75 * 2**30)
    monkeypatch.setattr(compiled, "lower_step", lambda job, devices: Lowered("INTERNAL: something else"))
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        compile_step(small_job())
