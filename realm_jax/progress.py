"""Show how far long work has come: a bar for a person, plain lines in a log."""

import math
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


class Pace:
    """How fast work goes: units a second.

    While work is under way, what came before the first report (start-up, compilation) is left out: it says
    nothing about the time left. When all is done, the rate is that of the whole.

    Args:
      total: units of work; None if unknown.
      start: units that were done before.
      clock: seconds now.
    """

    def __init__(self, total: int | None, *, start: int, clock: Callable[[], float]):
        self._total, self._clock = total, clock
        self._whole = start, clock()
        self._first: tuple[int, float] | None = None

    def rate(self, done: int) -> float:
        """Return units a second, 0 where it cannot be told yet; to be asked at every report."""
        now = self._clock()
        if self._first is None:
            self._first = done, now
        since, then = self._whole if done == self._total else self._first
        return (done - since) / max(now - then, 1e-9)


class PlainReporter:
    """Print a line now and then: done, rate, time left.

    Args:
      title: what is being done.
      total: units of work; None if unknown.
      unit: name of a unit, plural.
      start: units that were done before, by a run that is resumed.
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
        start: int = 0,
        seconds: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], None] | None = None,
    ):
        self._title, self._total, self._unit, self._seconds, self._clock = title, total, unit, seconds, clock
        self._write = write or (lambda line: print(line, flush=True))
        self._pace = Pace(total, start=start, clock=clock)
        self._last = clock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, done: int, note: str = "") -> None:
        """Print a line if the last one is old enough or the work is finished."""
        rate, now = self._pace.rate(done), self._clock()
        if now - self._last < self._seconds and done != self._total:
            return
        self._last = now
        parts = [f"{self._title}: {done}" + (f"/{self._total}" if self._total else "") + f" {self._unit}"]
        if rate > 0:
            parts.append(f"{format_rate(rate)} {self._unit}/s")
            if self._total and done != self._total:
                parts.append(f"{format_seconds((self._total - done) / rate)} left")
        self._write(", ".join(parts + ([note] if note else [])))


class SilentReporter:
    """Show nothing: of several processes the first alone reports."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def update(self, done: int, note: str = "") -> None:
        """Do nothing."""


class BarReporter:
    """Draw a bar on a terminal; arguments as for `PlainReporter`."""

    def __init__(self, title: str, total: int | None, *, unit: str = "steps", start: int = 0):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._unit, self._pace = unit, Pace(total, start=start, clock=time.monotonic)
        self._progress = Progress(*columns, console=Console(file=sys.stderr))
        self._task = self._progress.add_task(title, total=total, completed=start, note="", rate="")

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
        rate = self._pace.rate(done)
        shown = f"{format_rate(rate)} {self._unit}/s" if rate > 0 else self._unit
        self._progress.update(self._task, completed=done, note=note, rate=shown)


def reporter(
    title: str,
    total: int | None,
    *,
    unit: str = "steps",
    start: int = 0,
    write: Callable[[str], None] | None = None,
) -> PlainReporter | BarReporter:
    """Make the reporter that fits where the output goes: a bar on a terminal, else plain lines.

    Args:
      title: what is being done.
      total: units of work; None if unknown.
      unit: name of a unit, plural.
      start: units that were done before, by a run that is resumed.
      write: prints a plain line; None prints to standard output.
    """
    if sys.stderr.isatty():
        return BarReporter(title, total, unit=unit, start=start)
    return PlainReporter(title, total, unit=unit, start=start, write=write)


def to_stderr(line: str) -> None:
    """Print a line beside the results, for commands whose standard output is read by programs."""
    print(line, file=sys.stderr, flush=True)


def format_rate(rate: float) -> str:
    """Write a rate with three digits, without an exponent: 0.0123, 7.45, 12300."""
    rounded = float(f"{rate:.3g}")
    return f"{rounded:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def format_seconds(seconds: float) -> str:
    """Write a duration as 45s, 3m20s or 2h05m."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
