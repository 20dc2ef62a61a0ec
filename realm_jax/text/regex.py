"""Regular expressions as answers, each with a time limit.

A pattern such as (a+)+$ can run for years, and Python's matcher cannot be interrupted from another thread.
So the matching happens in a helper process, which is ended and started again when a pattern takes too long.
"""

import json
import select
import subprocess
import sys
from collections.abc import Iterable
from types import TracebackType

# Runs alone in the helper: a line of JSON in, a line of JSON out.
_HELPER = """
import json, re, sys
for line in sys.stdin:
    pattern, text, every = json.loads(line)
    try:
        found = re.compile(pattern, re.IGNORECASE | re.UNICODE)
        hits = [m.span() for m in (found.finditer(text) if every else [found.match(text)]) if m]
    except (re.error, OverflowError, RecursionError):
        hits = []
    print(json.dumps(hits), flush=True)
"""


class RegexMatcher:
    """Match patterns against texts, giving up on a pattern after `seconds`.

    Use it in a `with` statement; the helper process starts at the first match and ends with the statement.
    `timeouts` counts the patterns given up on.
    """

    def __init__(self, *, seconds: float = 1.0):
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self.timeouts = 0

    def __enter__(self) -> "RegexMatcher":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the helper process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def match(self, prediction: str, patterns: Iterable[str]) -> bool:
        """Say whether a pattern matches at the prediction's beginning, ignoring case.

        A pattern that does not compile, or takes too long, does not match.

        Source: regex_match of ORQA's evaluation (`re.match` with IGNORECASE and UNICODE).
        """
        return any(self._ask(pattern, prediction, every=False) for pattern in patterns)

    def search(self, text: str, patterns: Iterable[str]) -> list[tuple[int, int]]:
        """Return the character ranges of all matches in a text, ignoring case and leaving out empty ones."""
        found = {hit for pattern in patterns for hit in self._ask(pattern, text, every=True)}
        return sorted(hit for hit in found if hit[0] < hit[1])

    def _ask(self, pattern: str, text: str, *, every: bool) -> list[tuple[int, int]]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _HELPER],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        requests, replies = self._process.stdin, self._process.stdout
        assert requests is not None and replies is not None
        requests.write(json.dumps([pattern, text, every]) + "\n")
        requests.flush()
        ready, _, _ = select.select([replies], [], [], self._seconds)
        if not ready:
            self.timeouts += 1
            self.close()
            return []
        return [(start, stop) for start, stop in json.loads(replies.readline())]
