"""Start the processes of a run on this machine: two devices each, talking over localhost."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.tiny_run import CACHE_ALL

ROOT = Path(__file__).resolve().parents[2]
WAIT = 600.0  # seconds; only a broken run ever takes this long
DEVICES = 2  # of a process


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(
    words: Sequence[str], folder: Path, *, processes: int, programs: Path, lost_after: int = 100
) -> list[subprocess.Popen[bytes]]:
    """Start `python WORDS --coordinator ...` as several processes.

    Args:
      words: arguments of the interpreter.
      folder: gets what each process prints, in `N.log`.
      processes: how many.
      programs: folder of those that are compiled.
      lost_after: seconds after which a silent one is lost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flags = re.sub(r"--xla_force_host_platform_device_count=\d+", "", os.environ.get("XLA_FLAGS", ""))
    settings = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUMPY_DTYPE_PROMOTION": "strict",
        "JAX_NUMPY_RANK_PROMOTION": "raise",
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        **{name.upper(): str(value) for name, value in CACHE_ALL.items()},
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # these programs run for a few steps only
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={DEVICES}",
    }
    address = f"localhost:{free_port()}"
    started = []
    for number in range(processes):
        joining = ["--coordinator", address, "--processes", str(processes), "--process-id", str(number)]
        with (folder / f"{number}.log").open("wb") as log:
            started.append(
                subprocess.Popen(
                    [sys.executable, *words, *joining, "--lost-after", str(lost_after)],
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=settings,
                    cwd=ROOT,
                )
            )
    return started


def finish(started: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for all, a bounded time, and return their exit codes."""
    try:
        return [process.wait(WAIT) for process in started]
    finally:
        for process in started:
            process.kill()


def wait_for(path: Path, started: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait, a bounded time, until a file has something in it, while all processes live."""
    bound = time.monotonic() + WAIT
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < bound and [process.poll() for process in started] == [None] * len(started)
        time.sleep(0.1)


def printed(folder: Path, number: int) -> str:
    """Return what a process has printed."""
    return (folder / f"{number}.log").read_text(errors="replace")
