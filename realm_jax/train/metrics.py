"""Metrics of a run: sums and counts from the device, means to JSONL and TensorBoard."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import jax
from tensorboardX import SummaryWriter

from realm_jax.errors import TrainingError
from realm_jax.train.state import Metrics


def means(steps: Sequence[Metrics]) -> dict[str, float]:
    """Divide the summed sums by the summed counts, last.

    Args:
      steps: metrics of several steps.

    Returns:
      One mean a name; a name whose count is 0 is left out.
    """
    totals: dict[str, tuple[float, float]] = {}
    for metrics in jax.device_get(list(steps)):
        for name, (value, count) in metrics.items():
            old = totals.get(name, (0.0, 0.0))
            totals[name] = (old[0] + float(value), old[1] + float(count))
    return {name: value / count for name, (value, count) in totals.items() if count > 0}


def check_finite(values: Mapping[str, float], *, first_step: int, last_step: int) -> None:
    """Refuse to go on after a NaN or infinity.

    Raises:
      TrainingError: a value is not finite; names the steps it was averaged over.
    """
    bad = sorted(name for name, value in values.items() if not math.isfinite(value))
    if bad:
        raise TrainingError(
            "every metric must be finite",
            got=f"{', '.join(bad)} in steps {first_step} to {last_step}",
            remedy="Resume from the checkpoint before with a lower learning rate.",
        )


class Writer(Protocol):
    """Where the values of a step go."""

    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class NoMetrics:
    """Write nothing: of several processes the first alone writes."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class MetricsWriter:
    """Write scalars to `metrics.jsonl` and to TensorBoard files in one folder."""

    def __init__(self, workdir: Path):
        self._lines = (workdir / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(logdir=str(workdir / "tensorboard"))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step."""
        self._lines.write(json.dumps({"step": step, **{k: float(v) for k, v in values.items()}}) + "\n")
        self._lines.flush()
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._lines.close()
        self._board.close()
