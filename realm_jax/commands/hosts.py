"""Join the processes of a run, from flags or from what a TPU knows of its slice; stop when one is lost.

JAX ends a process by abort when another one is gone: a step that waits for it would wait for ever. So a
command of several processes works in a child, and the parent says what has happened.
"""

import atexit
import ctypes
import importlib.util
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from realm_jax.commands.parsing import OptionalInt, OptionalText
from realm_jax.errors import ConfigError, HostsError

PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)
REMEDY = (
    "The one that ended first says why. Start all of them again: the run resumes from its last checkpoint."
)


@dataclass(frozen=True)
class Hosts:
    """The processes of a run: one a host, started with the same arguments but for their number."""

    # HOST:PORT of process 0, where all meet; auto: ask TPU, Slurm or MPI; none (default: auto on a TPU)
    coordinator: OptionalText = None
    processes: OptionalInt = None  # how many there are
    process_id: OptionalInt = None  # number of this one, from 0
    lost_after: int = 100  # seconds without a sign of life after which a process is lost, and the others stop


@contextmanager
def joined(hosts: Hosts) -> Iterator[None]:
    """Work as one of several processes, if there are several; to be entered before jax is asked for a device.

    Raises:
      ConfigError: some of the flags are missing, or contradict one another.
      HostsError: a process was lost; in the parent. It does not come back otherwise.
    """
    given = check_flags(hosts)
    if given is None:
        yield
        return
    _go_on_in_a_child()
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")  # read where there is nothing but CPUs
    try:
        jax.distributed.initialize(
            **given, heartbeat_timeout_seconds=hosts.lost_after, shutdown_timeout_seconds=hosts.lost_after
        )
    except (RuntimeError, ValueError) as error:
        raise HostsError(
            "all processes of a run must be started, with the same --coordinator and --processes",
            got=str(error).splitlines()[0],
            remedy="See that process 0 runs and its port can be reached; --coordinator none works alone.",
        ) from error
    try:
        _meet()
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        atexit.register(_leave)
        raise HostsError(
            "the processes of a run work together to its end",
            got=f"on process {jax.process_index()} {str(error).splitlines()[0]}",
            remedy=REMEDY,
        ) from error


def _meet() -> None:
    """Begin together: on CPUs processes that first exchange something wait half a minute for one another."""
    from jax.experimental.multihost_utils import sync_global_devices

    from realm_jax.hosts.meeting import agree, next_meeting

    next_meeting("joined").exchange(None)
    sync_global_devices("joined")
    agree(True)


def _leave() -> None:
    """End without waiting for the others, as JAX would: one of them is gone."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(2)


def check_flags(hosts: Hosts) -> dict[str, Any] | None:
    """Return the arguments of `jax.distributed.initialize`; None where this process is alone.

    Raises:
      ConfigError: some of the flags are missing, or contradict one another.
    """
    numbers = (hosts.processes, hosts.process_id)
    if hosts.coordinator in (None, "auto", "none"):
        if numbers != (None, None):
            raise ConfigError(
                "--processes and --process-id go with --coordinator HOST:PORT",
                got=f"{hosts.processes} and {hosts.process_id}, coordinator {hosts.coordinator}",
                remedy="Give all three, or on a TPU none of them.",
            )
        alone = hosts.coordinator == "none" or (hosts.coordinator is None and not _on_a_tpu())
        return None if alone else {}
    count, number = numbers
    if count is None or number is None or not 0 <= number < count:
        raise ConfigError(
            "--coordinator HOST:PORT goes with --processes and a --process-id below it",
            got=f"{count} processes, process {number}",
            remedy="Give all three, the same but for the number on every host, or on a TPU none of them.",
        )
    host, _, port = str(hosts.coordinator).rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            "--coordinator is HOST:PORT",
            got=hosts.coordinator,
            remedy="Name a free port of process 0's host.",
        )
    return {"coordinator_address": hosts.coordinator, "num_processes": count, "process_id": number}


def _on_a_tpu() -> bool:
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev").glob("vfio/[0-9]*")]
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _go_on_in_a_child() -> None:
    """Return in a child process; the parent waits for it, and ends as it does."""
    sys.stdout.flush()
    parent = os.getpid()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # until there is somebody to pass it on
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PARENT_DEATH, signal.SIGKILL)  # who kills the parent means the work
        if os.getppid() != parent:
            os._exit(1)
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to both
    signal.signal(signal.SIGTERM, lambda number, frame: os.kill(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise HostsError(
            "the processes of a run work together to its end",
            got=f"this one ended by {signal.Signals(-code).name}",
            remedy=REMEDY,
        )
    sys.exit(code)
