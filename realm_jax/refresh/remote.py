"""A worker process as the trainer sees it: started, waited for, found dead, and its failures raised here."""

import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from realm_jax import errors
from realm_jax.errors import RealmError, RefreshError
from realm_jax.refresh.exchange import Exchange, Request

LOG = "worker.log"
LOG_TAIL = 2000  # characters of it that an error shows
POLL_SECONDS = 0.1
GRACE_SECONDS = 10.0  # how long a worker process may take to end when it is asked to


class RemoteError(Exception):
    """What a worker process raised that is no `RealmError`; its traceback is a note."""


class Child:
    """A worker process on this machine, started when it is needed and ended with the trainer.

    It is detached from the terminal, so that Ctrl-C reaches the trainer alone, which then ends in order. The
    trainer's process id is handed to it: should the trainer be killed, it ends by itself.

    Args:
      arguments: of `python -m realm_jax`; `--parent PID` is added.
      log: file its output goes to.
      environment: variables that differ from this process's.
    """

    def __init__(
        self,
        arguments: list[str],
        *,
        log: Path,
        environment: Mapping[str, str],
    ):
        self._arguments, self._log = arguments, log
        # The child imports the package that runs here, wherever that was found.
        found = os.pathsep.join(filter(None, [_package_root(), os.environ.get("PYTHONPATH")]))
        self._environment = {**os.environ, "PYTHONPATH": found, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it if it does not run."""
        if self._process is not None and self._process.poll() is None:
            return
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "realm_jax", *self._arguments, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
          RefreshError: it has ended.
        """
        code = None if self._process is None else self._process.poll()
        if code is not None:
            text = self._log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:].strip()
            raise RefreshError(
                "a worker process runs until the trainer ends it",
                got=f"exit code {code}" + (f" and, at the end of {self._log}:\n{text}\n" if text else ""),
                remedy="Signal 9 often means too little memory. Or train with --refresh.worker thread.",
            )

    def close(self) -> None:
        """End it, if need be by force."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None


def await_answer(
    exchange: Exchange,
    request: Request,
    *,
    should_stop: Callable[[], bool],
    check: Callable[[], None],
    silence_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Wait for the answer to a request, as long as the worker shows that it lives.

    Args:
      exchange: where both talk.
      request: from `Exchange.ask`.
      should_stop: asked all the time.
      check: raises where the worker is known to be dead.
      silence_seconds: how long the worker's sign of life may stay the same; its clock is not looked at.
      clock: seconds now.
      pause: waits so many seconds.

    Raises:
      RefreshError: it was asked to stop, or the worker is dead or silent.
      RealmError, RemoteError: what the worker raised, its traceback in a note.
    """
    heard, since = exchange.sign_of_life(), clock()
    while (answer := exchange.answer(request)) is None:
        if should_stop():
            raise RefreshError(
                "a refresh runs to its end",
                got="a request to stop",
                remedy="It starts again when the run is resumed.",
            )
        check()
        life, now = exchange.sign_of_life(), clock()
        if life != heard:
            heard, since = life, now
        if now - since > silence_seconds:
            raise RefreshError(
                f"a worker process must be at work on {exchange.folder}",
                got=f"no sign of life for {now - since:.0f} seconds",
                remedy=f"Start one: realm_jax refresh --exchange {exchange.folder}",
            )
        pause(POLL_SECONDS)
    if "failure" in answer:
        raise from_json(answer["failure"])
    return answer


def to_json(error: BaseException) -> dict[str, Any]:
    """Describe an exception in JSON types, so that it can be raised in another process."""
    told = {"kind": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    if isinstance(error, RealmError):
        got = error.got if isinstance(error.got, str) else repr(error.got)
        told |= {"rule": error.rule, "got": got, "remedy": error.remedy}
    return told


def from_json(told: Mapping[str, Any]) -> Exception:
    """Make an exception of what `to_json` said: of its own class where that is a `RealmError`."""
    kind = getattr(errors, told["kind"], None) if "rule" in told else None
    error = (
        RemoteError(f"{told['kind']}: {told['message']}")
        if kind is None
        else kind(told["rule"], got=told["got"], remedy=told["remedy"])
    )
    error.add_note(f"In the worker process:\n{told['traceback']}")
    return error


def _package_root() -> str:
    return str(Path(__file__).resolve().parents[2])
