"""Regular expressions as answers, each with a time limit.

A pattern such as (a+)+$ can run for years, and Python's matcher cannot be interrupted from another thread.
So the matching happens in a helper process, which is ended and started again when a pattern takes too long;
that pattern is not tried again.
"""

import json
import re
import select
import subprocess
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType

# Runs alone in the helper: a line when it is ready, then a line of JSON in, a line of JSON out.
_HELPER = """
import json, re, sys, warnings
warnings.simplefilter("ignore")
print("ready", flush=True)
for line in sys.stdin:
    pattern, flags, texts, every = json.loads(line)
    try:
        found = re.compile(pattern, flags)
        tried = ((found.finditer(text) if every else [found.match(text)]) for text in texts)
        hits = [[m.span() for m in matches if m] for matches in tried]
    except (re.error, ValueError, OverflowError, RecursionError):
        hits = [[] for _ in texts]
    print(json.dumps(hits), flush=True)
"""


FLAGS = re.IGNORECASE | re.UNICODE | re.MULTILINE  # of the official evaluation
Hits = list[list[tuple[int, int]]]  # of each text, characters [start, stop)
TEXTS_AT_ONCE = 500  # sent to the helper in one line


class RegexMatcher:
    """Match patterns against texts, giving up on a pattern for good after `seconds`.

    Use it in a `with` statement; the helper process starts at the first match and ends with the statement.
    `timeouts` counts the patterns given up on.

    Args:
      seconds: a pattern may take for one text.
    """

    def __init__(self, *, seconds: float = 1.0):
        self._seconds = seconds
        self._process: subprocess.Popen[str] | None = None
        self._given_up: set[str] = set()

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

        Source: regex_match_score of ORQA's evaluation, as of DrQA's: `re.match` with `FLAGS`.
        """
        return self.match_any([prediction], patterns)

    def match_any(self, predictions: Sequence[str], patterns: Iterable[str]) -> bool:
        """Say whether a pattern matches at the beginning of one of many predictions."""
        return any(
            any(self._ask(pattern, predictions[first : first + TEXTS_AT_ONCE], every=False))
            for pattern in patterns
            for first in range(0, len(predictions), TEXTS_AT_ONCE)
        )

    def search(self, text: str, patterns: Iterable[str]) -> list[tuple[int, int]]:
        """Return the character ranges of all matches in a text, ignoring case and leaving out empty ones."""
        return self.search_all([text], patterns)[0]

    def search_all(self, texts: Sequence[str], patterns: Iterable[str]) -> list[list[tuple[int, int]]]:
        """Do the same for many texts, which costs far less than one by one."""
        found: list[set[tuple[int, int]]] = [set() for _ in texts]
        for pattern in patterns:
            for first in range(0, len(texts), TEXTS_AT_ONCE):
                part = self._ask(pattern, texts[first : first + TEXTS_AT_ONCE], every=True)
                for place, hits in enumerate(part, start=first):
                    found[place].update(hit for hit in hits if hit[0] < hit[1])
        return [sorted(hits) for hits in found]

    @property
    def timeouts(self) -> int:
        return len(self._given_up)

    def _ask(self, pattern: str, texts: Sequence[str], *, every: bool) -> Hits:
        if pattern in self._given_up:
            return [[] for _ in texts]
        found = self._reply(pattern, texts, every=every)
        if found is None and len(texts) > 1:  # many texts, none of which need be too much
            return [hits for text in texts for hits in self._ask(pattern, [text], every=every)]
        if found is None:
            self._given_up.add(pattern)
            return [[] for _ in texts]
        return found

    def _reply(self, pattern: str, texts: Sequence[str], *, every: bool) -> Hits | None:
        """Return the hits in each text, None where the helper took too long for all of them together."""
        process = self._process = self._process or _start()
        requests, replies = process.stdin, process.stdout
        assert requests is not None and replies is not None
        requests.write(json.dumps([pattern, int(FLAGS), list(texts), every]) + "\n")
        requests.flush()
        ready, _, _ = select.select([replies], [], [], self._seconds)
        reply = replies.readline() if ready else ""
        if not reply:  # too slow, or more than the helper could bear
            self.close()
            return None
        return [[(start, stop) for start, stop in hits] for hits in json.loads(reply)]


def _start() -> subprocess.Popen[str]:
    """Start a helper; the time this takes is not the first pattern's."""
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HELPER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C asks the trainer to stop in good order, and not the helper
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process
