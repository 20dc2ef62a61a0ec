"""Show how far long work has come: a bar for a person, plain lines in a log."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter(Protocol):
    """Something that is told how much is done."""

    def update(self, done: int, note: str = "") -> None:
        """Report that `done` units are finished, with a short note to show beside."""
        ...


class PlainReporter:
    """Print a line now and then: done, rate, time left.

    Args:
      title: what is being done.
      total: units of work; None if unknown.
      unit: name of a unit, plural.
      seconds: shortest time between two lines.
      clock: seconds now.
      write: prints a line.
    """

    def __init__(
        self,
        title: str,
        total: int | None,
        *,
        unit: str = "steps",
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
    ):
        self._title, self._total, self._unit, self._seconds, self._clock = title, total, unit, seconds, clock
        self._write = write or (lambda line: print(line, flush=True))
        self._start = self._last = clock()
        self._first_done: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, done: int, note: str = "") -> None:
        """Print a line if the last one is old enough or the work is finished."""
        now = self._clock()
        if self._first_done is None:
            self._first_done, self._start = done, now
        if now - self._last < self._seconds and done != self._total:
            return
        self._last = now
        rate = (done - self._first_done) / max(now - self._start, 1e-9)
        parts = [f"{self._title}: {done}" + (f"/{self._total}" if self._total else "") + f" {self._unit}"]
        if rate > 0:
            parts.append(f"{rate:.3g} {self._unit}/s")
            if self._total:
                parts.append(f"{format_seconds((self._total - done) / rate)} left")
        self._write(", ".join(parts + ([note] if note else [])))


class BarReporter:
    """Draw a bar on a terminal; arguments as for `PlainReporter`."""

    def __init__(self, title: str, total: int | None, *, unit: str = "steps"):
        del unit
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=Console(file=sys.stderr))
        self._task = self._progress.add_task(title, total=total, note="", rate="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace
        self._progress.stop()

    def update(self, done: int, note: str = "") -> None:
        """Move the bar."""
        speed = self._progress.tasks[0].speed
        self._progress.update(self._task, completed=done, note=note, rate=f"{speed:.3g}/s" if speed else "")


def reporter(
    title: str, total: int | None, *, unit: str = "steps", write: Callable[[str], None] | None = None
) -> PlainReporter | BarReporter:
    """Make the reporter that fits where the output goes: a bar on a terminal, else plain lines.

    Args:
      title: what is being done.
      total: units of work; None if unknown.
      unit: name of a unit, plural.
      write: prints a plain line; None prints to standard output.
    """
    if sys.stderr.isatty():
        return BarReporter(title, total, unit=unit)
    return PlainReporter(title, total, unit=unit, write=write)


def to_stderr(line: str) -> None:
    """Print a line beside the results, for commands whose standard output is read by programs."""
    print(line, file=sys.stderr, flush=True)


def format_seconds(seconds: float) -> str:
    """Write a duration as 45s, 3m20s or 2h05m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
