"""Read finished runs and compare them."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realm_jax.train.checkpoint import Checkpoints


def logged(workdir: Path, name: str) -> dict[int, float]:
    """Return a metric by step, where it was logged."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line[name] for line in lines if name in line}


def same(one: Any, other: Any) -> bool:
    """Say whether two trees of arrays are equal bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))


def assert_same_end(found: Path, expected: Path) -> None:
    """Compare the last checkpoints of two runs: step, record and every parameter."""
    one, other = Checkpoints(found), Checkpoints(expected)
    assert one.latest() == other.latest() and one.record() == other.record()
    params, wanted = one.restore_params(), other.restore_params()
    assert {name: same(params[name], wanted[name]) for name in wanted} == dict.fromkeys(wanted, True)
