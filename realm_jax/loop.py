"""The one training loop. Step, stream, inputs and hooks are handed in."""

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any, Self

from jax.experimental.multihost_utils import reached_preemption_sync_point

from realm_jax.train.state import Metrics, TrainState
from realm_jax.types import Params

Hook = Callable[[int, TrainState, Metrics], None]  # (steps done, state, metrics of the last step)


def train(
    state: TrainState,
    *,
    stream: Iterator[Any],
    inputs: Callable[[int, Params, Any], tuple],
    step_fn: Callable[..., tuple[TrainState, Metrics]],
    hooks: Sequence[Hook],
    stop_at: int,
    should_stop: Callable[[], bool] = lambda: False,
) -> TrainState:
    """Train until `stop_at` steps are done.

    Args:
      state: where to start; its step says how many are done.
      stream: yields batches; already at the position that belongs to the state.
      inputs: `(steps done, params, batch)` to the step's inputs; searches the index where the step reads
        blocks.
      step_fn: the compiled step; the state given to it must not be used again.
      hooks: called in order after every step; each decides itself whether to act.
      stop_at: number of steps.
      should_stop: asked after every step; True ends the loop early, with a whole step done.

    Returns:
      The state after the last step.
    """
    for done in range(int(state.step) + 1, stop_at + 1):
        batch = next(stream)
        state, metrics = step_fn(state, *inputs(done - 1, state.params, batch))
        for hook in hooks:
            hook(done, state, metrics)
        if should_stop():
            break
    return state


class StopTogether:
    """Ask all processes for an orderly stop after the same step, when one of them gets SIGTERM or SIGINT.

    JAX's preemption service tells the others, and which step it is. The service waits for SIGTERM by itself.

    Args:
      done: steps done before, the same everywhere; it is asked once after every step.
    """

    def __init__(self, done: int) -> None:
        self._done, self._asked = done, False
        self._before: Any = None

    def __enter__(self) -> Self:
        self._before = signal.signal(signal.SIGINT, self._pass_on)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def __call__(self) -> bool:
        if not self._asked:
            self._done += 1
            self._asked = reached_preemption_sync_point(self._done)
        return self._asked

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # asked twice: do not insist on saving
        signal.raise_signal(signal.SIGTERM)


class StopOnSignal:
    """Ask for an orderly stop on SIGTERM or SIGINT: the step in progress ends, then a checkpoint is saved."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        return self._asked.is_set()

    def _ask(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._asked.is_set():  # asked twice: do not insist on saving
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._asked.set()
