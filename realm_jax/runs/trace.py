"""Record what host and devices do in a few steps, for TensorBoard's profiler or Perfetto."""

from pathlib import Path

import jax

from realm_jax.train.state import Metrics, TrainState

WARM = 2  # steps after the start that are not recorded: they compile


class TraceHook:
    """Record some steps.

    Args:
      folder: where the trace is written.
      done: steps done before this start.
      steps: how many are recorded; 0 records nothing.
    """

    def __init__(self, folder: Path, *, done: int, steps: int):
        self._folder, self._first, self._steps = folder, done + WARM, steps
        self._running = False

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Begin and end between steps; the devices are idle at both."""
        del state
        if self._steps and step == self._first:
            jax.block_until_ready(metrics)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and step == self._first + self._steps:
            jax.block_until_ready(metrics)
            self.close()

    def close(self) -> None:
        """End a recording that the end of the run cuts short."""
        if self._running:
            jax.profiler.stop_trace()
            self._running = False
