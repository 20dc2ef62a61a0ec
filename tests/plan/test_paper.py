"""The paper's pre-training compiled for slices of two kinds; long, so it has to be asked for."""

import importlib.util
import os
from pathlib import Path

import pytest

from realm_jax.commands.training import load_experiment
from realm_jax.plan.compiled import compile_apart
from realm_jax.plan.corpus_size import corpus_size
from realm_jax.plan.job import make_job
from realm_jax.plan.remedies import attempts
from realm_jax.plan.tables import verdict_view
from realm_jax.plan.topology import parse_topology

EXPERIMENT = Path(__file__).parents[2] / "experiments" / "realm_wiki.py"
LONG = "REALM_JAX_LONG_TESTS"

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed (requirements-tpu.txt)"
    ),
    pytest.mark.skipif(
        not os.environ.get(LONG), reason=f"20 minutes and 13 GB a slice: set {LONG}=1 to run it"
    ),
]


@pytest.mark.parametrize("name", ["v5e:8x8", "v6e:4x4"])
def test_the_papers_step_fits(name):
    config, topology = load_experiment(EXPERIMENT), parse_topology(name)
    made = list(attempts(make_job(config, "realm", topology, corpus_size(config)), compile_apart))
    assert verdict_view(made).plain == "fits as it is"
    compiled = made[-1].compiled
    assert compiled is not None and compiled.arguments < compiled.needed < topology.chip.memory
    assert "all-reduce" in {one.name for one in compiled.collectives}
