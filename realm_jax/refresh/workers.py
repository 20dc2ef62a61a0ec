"""Who does the work of a refresh: the caller itself, or one background thread."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol

Job = Callable[[Callable[[], bool]], Any]  # told how to ask whether it should stop


class Worker(Protocol):
    """Runs one job at a time."""

    def submit(self, job: Job) -> "Future[Any]":
        """Start a job; the one before must be done."""
        ...

    def close(self) -> None:
        """Ask a running job to stop and let go of the worker."""
        ...


class InlineWorker:
    """Run each job at once, in the caller."""

    def submit(self, job: Job) -> "Future[Any]":
        """Run the job; its result or its exception is in the future."""
        future: Future[Any] = Future()
        _run(job, lambda: False, future)
        return future

    def close(self) -> None:
        """Do nothing: no job outlives `submit`."""


class ThreadWorker:
    """Run each job on a background thread of its own.

    Args:
      join_seconds: how long `close` waits for a job that was asked to stop.
    """

    def __init__(self, *, join_seconds: float = 60.0):
        self._join_seconds = join_seconds
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> "Future[Any]":
        """Start the job and return at once."""
        future: Future[Any] = Future()
        self._thread = threading.Thread(
            target=_run, args=(job, self._stop.is_set, future), name="refresher", daemon=True
        )
        self._thread.start()
        return future

    def close(self) -> None:
        """Ask the job to stop and wait for it, a bounded time."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(self._join_seconds)


def _run(job: Job, should_stop: Callable[[], bool], future: "Future[Any]") -> None:
    future.set_running_or_notify_cancel()
    try:
        result = job(should_stop)
    except BaseException as error:  # carried over: the trainer raises it with this traceback
        future.set_exception(error)
    else:
        future.set_result(result)


WORKERS: dict[str, Callable[[], Worker]] = {"inline": InlineWorker, "thread": ThreadWorker}
