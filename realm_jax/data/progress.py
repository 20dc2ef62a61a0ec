"""How far a long piece of work on the host has come, in lines of text."""

import sys
import time
from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Told now and then how far the work is."""

    def __call__(self, *, done: float, total: float, items: int, unit: str) -> None: ...


class LineProgress:
    """Print a line with rate and time left every few seconds."""

    def __init__(
        self,
        label: str,
        *,
        seconds: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[str], object] = sys.stderr.write,
    ):
        self._label, self._seconds, self._clock, self._write = label, seconds, clock, write
        self._start = self._last = clock()

    def __call__(self, *, done: float, total: float, items: int, unit: str) -> None:
        """Report `done` of `total` (any measure of the input), by which `items` things were made."""
        now = self._clock()
        if now - self._last < self._seconds:
            return
        self._last = now
        elapsed = max(now - self._start, 1e-9)
        left = elapsed * (total - done) / done if done else float("inf")
        self._write(f"{self._label}: {100 * done / max(total, 1e-9):.0f}%, {items} {unit}, "
                    f"{items / elapsed:.0f} {unit}/s, {_span(left)} left\n")


def _span(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown time"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
