"""Two programs that take turns, each in an interpreter of its own, so that one machine's noise hits both.

A side is a module that ends in `serve(TASKS)`. It is told what to prepare, as a line of JSON, then to run,
again and again; it answers each time with what that took. Only the standard library is used here: the sides
have little else in common.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]

# name -> settings -> (what is timed, what is worth saying about it)
Tasks = Mapping[str, Callable[..., tuple[Callable[[], None], dict[str, Any]]]]


def serve(tasks: Tasks) -> None:
    """Answer requests on standard input until it ends; what else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    prepared: dict[str, Callable[[], None]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("prepare", None)
        if name is not None:
            label = request.pop("label")
            prepared[label], answer = tasks[name](**request)
        else:
            start, used = time.perf_counter(), time.process_time()
            prepared[request["run"]]()
            answer = {"seconds": time.perf_counter() - start, "processor": time.process_time() - used}
        print(json.dumps(answer), file=answers, flush=True)


class Took(NamedTuple):
    """What one repetition took."""

    seconds: float
    processor: float  # seconds of all threads together: what a busy machine leaves alone


class Side:
    """One of the programs, running.

    Args:
      module: its module, such as `benchmarks.port`.
      python: its interpreter.
      threads: that it may compute with.
      environment: more variables.
    """

    def __init__(
        self, module: str, *, python: str, threads: int, environment: Mapping[str, str] | None = None
    ):
        self.module = module
        self._process = subprocess.Popen(
            [python, "-m", module],
            cwd=ROOT,
            env=fair_environment(threads) | dict(environment or {}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def prepare(self, task: str, *, label: str | None = None, **settings: Any) -> dict[str, Any]:
        """Have it make a task ready, to be run by its label, or its name; returns what it says about it."""
        return self._ask({"prepare": task, "label": label or task, **settings})

    def run(self, task: str) -> "Took":
        """Have it do a task once."""
        return Took(**self._ask({"run": task}))

    def close(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.module} ended: its own message stands above")
        return json.loads(line)


def fair_environment(threads: int) -> dict[str, str]:
    """Return the environment of every side: so many threads, which rest while the other side runs."""
    count = str(threads)
    fixed = {
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "JAX_PLATFORMS": "cpu",
    }
    return dict(os.environ) | fixed


def take_turns(runs: Mapping[str, Callable[[], Took]], *, repeats: int) -> dict[str, list[Took]]:
    """Do everything once, then everything again, `repeats` times; returns what each took, by name."""
    took: dict[str, list[Took]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            took[name].append(run())
    return took


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> tuple[float, float, float]:
    """Return how many times faster we are: by the medians, and the least and most of paired repetitions."""
    pairs = [a / b for a, b in zip(theirs, ours, strict=True)]
    return statistics.median(theirs) / statistics.median(ours), min(pairs), max(pairs)
