"""The inputs of the next step, made while the current one runs.

Before a step is handed to the device, the next batch is drawn and what it needs of the parameters is started
(its queries are embedded); the search, the gathering of blocks and the finding of answers then go on beside
the step, in one job on a background thread. So step s is given inputs made with the parameters from before
step s - 1. That is the same on every run, and a position remembers the embeddings that are waiting, so a
resumed run goes on bit for bit.
"""

import base64
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import jax
import numpy as np

from realm_jax.hosts.rows import collected
from realm_jax.refresh.workers import DeferredWorker, ThreadWorker, Worker
from realm_jax.types import Array, Params

Batch = TypeVar("Batch")
Drawn = TypeVar("Drawn", covariant=True)


class Batches(Iterator[Drawn], Protocol[Drawn]):
    """An endless iterator with a position, as `data.stream.Stream` is one."""

    def get_state(self) -> dict[str, Any]: ...

    def set_state(self, state: Mapping[str, Any]) -> None: ...


class StepInputs(Protocol):
    """From a batch to the step's inputs, in two parts."""

    def begin(self, params: Params, batch: Any) -> Array | None:
        """Start what needs the parameters and return at once: a float32 array, or None if nothing does."""
        ...

    def finish(self, step: int, batch: Any, begun: Array | None) -> tuple:
        """Do the rest, on any thread: the inputs of the step after `step` steps."""
        ...


def inputs_worker(*, ahead: bool) -> Worker | None:
    """Choose who makes the inputs of the next step.

    A thread. With several processes it is the main thread, once the step has been given to the devices: to
    search, processes exchange queries and results, which must come in the same order on each.

    Args:
      ahead: make them during the step before; without, None is returned.
    """
    if not ahead:
        return None
    return ThreadWorker(name="inputs") if jax.process_count() == 1 else DeferredWorker()


@dataclass(frozen=True)
class _Waiting(Generic[Batch]):
    """A batch that was drawn and whose inputs are being made."""

    position: dict[str, Any]  # of the stream, before the batch
    batch: Batch
    begun: Array | None
    version: int
    inputs: "Future[tuple]"


class Ahead(Iterator[Batch]):
    """Both the stream and the inputs of a phase, one step ahead of the training.

    Args:
      stream: of batches.
      inputs: makes a step's inputs.
      worker: runs one job at a time, in a thread or inline, with the same results; None is never ahead.
      version: what the inputs are made from beside the parameters, such as the version of the index; where
        it has changed since, the waiting inputs are dropped and made anew with the current parameters.
    """

    def __init__(
        self,
        stream: Batches[Batch],
        inputs: StepInputs,
        worker: Worker | None,
        *,
        version: Callable[[], int] = lambda: 0,
    ):
        self._stream, self._inputs, self._worker, self._version = stream, inputs, worker, version
        self._waiting: _Waiting[Batch] | None = None
        self._restored: np.ndarray | None = None  # what had begun for the batch that is drawn next
        self._staleness: int | None = None

    def __next__(self) -> Batch:
        """Return the batch of the coming step."""
        return self._waiting.batch if self._waiting else next(self._stream)

    def __call__(self, step: int, params: Params, batch: Batch) -> tuple:
        """Return the inputs of the step after `step` steps, and start on those of the next.

        Raises:
          Exception: what the job raised, with its traceback.
        """
        waiting, self._waiting = self._waiting, None
        restored, self._restored = self._restored, None
        made = waiting.inputs.result() if waiting else None
        ahead = 1  # steps between the parameters of what had begun and those of the step
        begun = waiting.begun if waiting else None
        if waiting is None or made is None or waiting.version != self._version():
            ahead = int(restored is not None)
            begun = self._inputs.begin(params, batch) if restored is None else restored
            made = self._inputs.finish(step, batch, begun)
        self._staleness = None if begun is None else ahead
        if self._worker is not None:
            self._waiting = self._start(self._worker, step + 1, params)
        return made

    def values(self, step: int) -> dict[str, float]:
        """Return what is logged: how many steps older than the step's parameters its query embeddings are.

        That is 0 or 1, and absent where no query is embedded.
        """
        del step
        return {} if self._staleness is None else {"query_staleness_steps": self._staleness}

    def get_state(self) -> dict[str, Any]:
        """Return the position of the batch that comes next, and what has begun for it, in JSON types."""
        waiting = self._waiting
        if waiting is None:
            return self._stream.get_state()
        if waiting.begun is None or waiting.version != self._version():
            return waiting.position
        begun = collected(waiting.begun).astype(np.float32)
        values = base64.b64encode(begun.tobytes()).decode("ascii")
        return {**waiting.position, "begun": {"shape": list(begun.shape), "float32": values}}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go to a position that `get_state` returned."""
        if self._waiting is not None:
            self._waiting.inputs.exception()  # the worker takes one job at a time
        self._waiting = self._restored = None
        self._stream.set_state(state)
        if (begun := state.get("begun")) is not None:
            values = np.frombuffer(base64.b64decode(begun["float32"]), np.float32)
            self._restored = values.reshape(begun["shape"])

    def close(self) -> None:
        """Wait for the job that is running, and take no more."""
        if self._worker is not None:
            self._worker.close()

    def _start(self, worker: Worker, step: int, params: Params) -> _Waiting[Batch]:
        position = self._stream.get_state()
        batch = next(self._stream)
        # Asked before anything begins: a version adopted meanwhile makes all of it stale.
        version = self._version()
        begun = self._inputs.begin(params, batch)
        job = worker.submit(lambda should_stop: self._inputs.finish(step, batch, begun))
        return _Waiting(position, batch, begun, version, job)
