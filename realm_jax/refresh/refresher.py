"""When the index is embedded anew, and when the trainer adopts the result.

The refresher is asked between steps. It takes a snapshot of parameters, hands it to a worker, and gives the
trainer the new index later: as soon as it is done (`when_ready`, the trainer never waits), or exactly `lag`
steps after the snapshot (`at_lag`: asynchronous, and the same bit for bit on every run).
"""

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.errors import IndexFault, RefreshError
from realm_jax.refresh.workers import Worker
from realm_jax.types import Params

Built = TypeVar("Built")
Build = Callable[[Params, int, Callable[[], bool]], Built]  # (snapshot, its step, should_stop) -> index


@dataclass(frozen=True)
class Snapshot:
    """The parameters a refresh embeds with."""

    step: int
    params: Params


@dataclass(frozen=True)
class Adopted(Generic[Built]):
    """A finished refresh, handed to the trainer."""

    version: int  # step of its snapshot
    value: Built
    seconds: float  # from snapshot to adoption


@jax.jit
def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)


def copy_of(params: Params) -> Params:
    """Copy parameters, because the step that follows reuses the buffers of its state.

    Arrays on a device are copied there: the copy is queued behind the step that computes them and before the
    one that reuses them, and nobody waits for it. The result stays there, where the worker embeds.
    """
    return _copied(jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else np.array(leaf), params))


class Refresher(Generic[Built]):
    """Refresh the index while training goes on.

    Args:
      build: embeds, builds and publishes; never touches the live index.
      worker: runs it.
      every: steps between snapshots; 0 never refreshes.
      lag: None adopts when ready; a number adopts exactly that many steps after the snapshot.
      retries: how often a failed refresh is repeated with the same snapshot. An index that was refused
        (too little recall, no finite embedding) is not: the same parameters give the same index.
      copy: copies the parameters of a snapshot.
      agree: says whether what is done here is done on all processes; each must adopt at the same step.
      on_close: lets go of what `build` uses; called when no build runs any more.
      clock: seconds now.
    """

    def __init__(
        self,
        build: Build[Built],
        worker: Worker,
        *,
        every: int,
        lag: int | None = None,
        retries: int = 2,
        copy: Callable[[Params], Params] = copy_of,
        agree: Callable[[bool], bool] = bool,
        on_close: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._copy, self._agree = copy, agree
        self._build, self._worker, self._clock = build, worker, clock
        self._every, self._lag, self._retries = every, lag, retries
        self._on_close = on_close
        self._snapshot: Snapshot | None = None
        self._future: Future[Built] | None = None
        self._started = 0.0
        self._failures: list[str] = []
        self.retried = 0  # failures that were followed by another try
        self.skipped = 0  # refreshes that were due while one was still running

    def after_step(self, step: int, params: Params) -> Adopted[Built] | None:
        """Adopt what is ready, then start what is due.

        Args:
          step: steps done.
          params: what the build needs, with the current values; copied if a refresh starts, those on a device
          without waiting until they are computed.

        Returns:
          A new index, or None.

        Raises:
          RefreshError: a refresh failed more often than `retries`; the cause is the worker's exception.
        """
        adopted = self._adopt(step)
        if self._every and step % self._every == 0:
            if self._snapshot is None:
                self.resume(Snapshot(step, params))
                if adopted is None and self._lag is None:
                    adopted = self._adopt(step)  # an inline worker is done already
            else:
                self.skipped += 1
        return adopted

    def resume(self, snapshot: Snapshot) -> None:
        """Start the refresh of a snapshot, for instance one that a checkpoint held; it is copied."""
        self._snapshot = snapshot = Snapshot(snapshot.step, self._copy(snapshot.params))
        self._started, self._failures = self._clock(), []
        self._submit(snapshot)

    def pending(self) -> Snapshot | None:
        """Return the snapshot of the refresh in flight, for a checkpoint."""
        return self._snapshot

    def close(self) -> None:
        """Stop a refresh in flight; its result is dropped."""
        try:
            self._worker.close()
        finally:
            self._on_close()

    def _submit(self, snapshot: Snapshot) -> None:
        self._future = self._worker.submit(
            lambda should_stop: self._build(snapshot.params, snapshot.step, should_stop)
        )

    def _adopt(self, step: int) -> Adopted[Built] | None:
        while (snapshot := self._snapshot) is not None and (future := self._future) is not None:
            due = self._agree(future.done()) if self._lag is None else step >= snapshot.step + self._lag
            if not due:
                return None
            error = future.exception()  # waits under at_lag
            if error is None:
                self._snapshot = self._future = None
                return Adopted(snapshot.step, future.result(), self._clock() - self._started)
            self._failures.append(f"{type(error).__name__}: {error}")
            lasting = isinstance(error, IndexFault) or not isinstance(error, Exception)
            if lasting or len(self._failures) > self._retries:
                self._snapshot = self._future = None
                for number, failure in enumerate(self._failures[:-1], start=1):
                    error.add_note(f"try {number} had failed with {failure}")
                raise RefreshError(
                    f"a refresh must succeed within {self._retries + 1} tries",
                    got=f"{self._failures[-1]} (try {len(self._failures)}, snapshot of step {snapshot.step})",
                    remedy="The cause is above; the index in use was not touched.",
                ) from error
            self.retried += 1
            self._submit(snapshot)
        return None
