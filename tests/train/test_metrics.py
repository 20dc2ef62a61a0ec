"""Metrics: sums and counts are added before they are divided; nothing that is not finite passes."""

import json
import math
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import TrainingError
from realm_jax.train.metrics import MetricsWriter, check_finite, means

PAIRS = st.lists(st.tuples(st.integers(-50, 50), st.integers(0, 9)), min_size=1, max_size=6)


@given(PAIRS)
def test_means_are_sums_over_counts(pairs):
    found = means([{"loss": (np.float32(total), np.float32(count))} for total, count in pairs])
    total, count = (sum(pair[i] for pair in pairs) for i in range(2))
    assert found == ({"loss": pytest.approx(total / count)} if count else {})


def test_batches_of_different_size_weigh_by_their_size():
    """Mean 1 over one token and mean 3 over three: 10 / 4, not 2."""
    steps = [{"loss": (jnp.float32(1), jnp.float32(1))}, {"loss": (jnp.float32(9), jnp.float32(3))}]
    assert means(steps) == {"loss": 2.5}


def test_a_metric_may_be_absent_in_some_steps():
    one = (np.float32(4), np.float32(2))
    assert means([{"a": one}, {"a": one, "b": one}]) == {"a": 2.0, "b": 2.0}
    assert means([]) == {}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_stops_training_and_says_where(bad):
    with pytest.raises(TrainingError, match="gradient_norm, loss in steps 41 to 50"):
        check_finite({"loss": bad, "accuracy": 0.5, "gradient_norm": bad}, first_step=41, last_step=50)


def test_a_nan_in_one_of_many_steps_is_seen():
    steps = [{"loss": (np.float32(np.nan if i == 3 else 1), np.float32(1))} for i in range(10)]
    with pytest.raises(TrainingError):
        check_finite(means(steps), first_step=1, last_step=10)


def test_finite_values_pass():
    check_finite({"loss": 1e30, "utility": -3.0}, first_step=1, last_step=1)


def test_lines_are_appended_and_readable_while_the_run_goes_on(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": np.float32(2.5)})
    assert [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        {"step": 1, "loss": 2.5}
    ]
    writer.close()
    resumed = MetricsWriter(tmp_path, done=1)
    resumed.write(2, {"loss": 2.0})
    resumed.close()
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2]
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_what_a_killed_process_wrote_of_later_steps_goes(tmp_path):
    lines = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("".join(lines) + '{"step": 4')
    writer = MetricsWriter(tmp_path, done=20)
    writer.write(30, {"loss": math.nan})
    writer.close()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30] and rows[-1]["loss"] is None


def test_a_dead_writer_of_tensorboard_is_no_reason_to_wait_for_it(tmp_path):
    writer = MetricsWriter(tmp_path)
    writer.write(1, {"loss": 1.0})
    assert writer._writing
    writer._writing = {threading.Thread()}  # one that does not run, as after a full disk
    with pytest.raises(TrainingError, match="Make room"):
        writer.write(2, {"loss": 1.0})
    writer.close()
