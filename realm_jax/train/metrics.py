"""Metrics of a run: sums and counts from the device, means to JSONL and TensorBoard."""

import json
import math
import os
import threading
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
            remedy="Start a new run from this one's last checkpoint (--start-from), at a lower rate.",
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
    """Write scalars to `metrics.jsonl` and to TensorBoard files in one folder.

    Args:
      workdir: the folder.
      done: steps of the run so far; what was written of later ones, by a process that was killed, goes.
    """

    def __init__(self, workdir: Path, *, done: int = 0):
        path = workdir / "metrics.jsonl"
        _forget_after(path, done)
        self._lines = path.open("a", encoding="utf-8")
        before = set(threading.enumerate())
        purge = {"purge_step": done + 1} if (workdir / "tensorboard").exists() else {}
        self._board = SummaryWriter(logdir=str(workdir / "tensorboard"), **purge)
        self._writing = set(threading.enumerate()) - before

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Write the values of a step; what is not finite is null in JSON.

        Raises:
          TrainingError: TensorBoard's file cannot be written any more.
        """
        finite = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
        self._lines.write(json.dumps({"step": step, **finite}) + "\n")
        self._lines.flush()
        # Its thread ends at an error and says so to nobody; once its queue is full, one waits for ever.
        if not self._board_lives():
            raise TrainingError(
                "metrics are written for TensorBoard too",
                got="a writer that has ended, such as at a full disk",
                remedy="Make room, and run the command again to resume.",
            )
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush and close both."""
        self._lines.close()
        if self._board_lives():
            self._board.close()

    def _board_lives(self) -> bool:
        return all(thread.is_alive() for thread in self._writing)


def _forget_after(path: Path, done: int) -> None:
    """Leave out the lines of steps after `done`, and one that was cut short."""
    if not path.is_file():
        return
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= done]
    if kept != lines:
        aside = path.with_name(f".{path.name}.{os.getpid()}")
        aside.write_text("".join(kept), encoding="utf-8")
        aside.replace(path)
