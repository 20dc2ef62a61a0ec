"""Who does the work of a refresh, or makes the next inputs: the caller, now or later, or a thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

from realm_jax.errors import RefreshError

Job = Callable[[Callable[[], bool]], Any]  # told how to ask whether it should stop


class Worker(Protocol):
    """Runs one job at a time."""

    def submit(self, job: Job) -> "Future[Any]":
        """Start a job; the one before must be done.

        Raises:
          RefreshError: it is not, or the worker is closed.
        """
        ...

    def close(self) -> None:
        """Ask a running job to stop and let go of the worker."""
        ...


class InlineWorker:
    """Run each job at once, in the caller."""

    def __init__(self) -> None:
        self._closed = False

    def submit(self, job: Job) -> "Future[Any]":
        """Run the job; its result or its exception is in the future. What is no Exception passes through."""
        _check_free(closed=self._closed, busy=False)
        future: Future[Any] = Future()
        try:
            future.set_result(job(lambda: self._closed))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        """Take no more jobs; none outlives `submit`."""
        self._closed = True


class DeferredWorker:
    """Run a job in the caller when its result is asked for."""

    def __init__(self) -> None:
        self._closed = False
        self._future: Future[Any] | None = None

    def submit(self, job: Job) -> "Future[Any]":
        """Keep the job; its result or its exception is made when it is asked for."""
        _check_free(closed=self._closed, busy=self._future is not None and not self._future.done())
        self._future = _Deferred(lambda: job(lambda: self._closed))
        return self._future

    def close(self) -> None:
        """Take no more jobs; one whose result nobody asked for is never run."""
        self._closed = True


class _Deferred(Future[Any]):
    """A future that makes its result itself, once."""

    def __init__(self, make: Callable[[], Any]):
        super().__init__()
        self._make = make

    def result(self, timeout: float | None = None) -> Any:
        self._run()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        self._run()
        return super().exception(timeout)

    def _run(self) -> None:
        if not self.done():
            try:
                self.set_result(self._make())
            except Exception as error:
                self.set_exception(error)


class ThreadWorker:
    """Run each job on a background thread of its own.

    Args:
      join_seconds: how long `close` waits for a job that was asked to stop.
      name: of the thread.
    """

    def __init__(self, *, join_seconds: float = 60.0, name: str = "refresher"):
        self._join_seconds, self._name = join_seconds, name
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._future: Future[Any] | None = None

    def submit(self, job: Job) -> "Future[Any]":
        """Start the job and return at once."""
        busy = self._future is not None and not self._future.done()
        _check_free(closed=self._stop.is_set(), busy=busy)
        self._future = Future()
        # A daemon: a job that hangs must not keep the process from ending.
        self._thread = threading.Thread(
            target=_run, args=(job, self._stop.is_set, self._future), name=self._name, daemon=True
        )
        self._thread.start()
        return self._future

    def close(self) -> None:
        """Ask the job to stop and wait for it, a bounded time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._join_seconds)


def _run(job: Job, should_stop: Callable[[], bool], future: "Future[Any]") -> None:
    try:
        result = job(should_stop)
    except BaseException as error:  # carried over: the trainer raises it with this traceback
        future.set_exception(error)
    else:
        future.set_result(result)


def _check_free(*, closed: bool, busy: bool) -> None:
    if closed or busy:
        raise RefreshError(
            "a worker takes one job at a time, until it is closed",
            got="a job for a closed worker" if closed else "a second job",
            remedy="Wait for the result of the first, or make another worker.",
        )


WORKERS: dict[str, Callable[[], Worker]] = {
    "inline": InlineWorker,
    "thread": ThreadWorker,
    "submesh": ThreadWorker,  # whose programs run on devices of their own
    "process": ThreadWorker,  # which waits for the process
}
