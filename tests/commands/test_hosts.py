"""Joining the processes of a run: flags that fit together, and a parent that says how its child ended."""

import os
import signal
import subprocess
import sys

import pytest

from realm_jax.commands import hosts as module
from realm_jax.commands.hosts import Hosts, check_flags
from realm_jax.errors import ConfigError


@pytest.mark.parametrize(
    ("hosts", "rule"),
    [
        (Hosts(processes=2), "go with --coordinator"),
        (Hosts(process_id=0), "go with --coordinator"),
        (Hosts(coordinator="auto", processes=2, process_id=0), "go with --coordinator"),
        (Hosts(coordinator="none", processes=2, process_id=0), "go with --coordinator"),
        (Hosts(coordinator="a:1"), "goes with --processes"),
        (Hosts(coordinator="a:1", processes=2), "goes with --processes"),
        (Hosts(coordinator="a:1", process_id=1), "goes with --processes"),
        (Hosts(coordinator="a:1", processes=2, process_id=2), "--process-id below it"),
        (Hosts(coordinator="a:1", processes=2, process_id=-1), "--process-id below it"),
        (Hosts(coordinator="a", processes=2, process_id=0), "HOST:PORT"),
        (Hosts(coordinator="a:b", processes=2, process_id=0), "HOST:PORT"),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(hosts, rule, monkeypatch):
    monkeypatch.setattr(module, "_on_a_tpu", lambda: False)
    with pytest.raises(ConfigError, match=rule):
        check_flags(hosts)


@pytest.mark.parametrize("tpu", [False, True])
def test_a_tpu_says_by_itself_who_is_there_unless_it_is_not_asked(tpu, monkeypatch):
    monkeypatch.setattr(module, "_on_a_tpu", lambda: tpu)
    assert check_flags(Hosts()) == ({} if tpu else None)
    assert check_flags(Hosts(coordinator="none")) is None
    assert check_flags(Hosts(coordinator="auto")) == {}
    named = {"coordinator_address": "a:1", "num_processes": 2, "process_id": 1}
    assert check_flags(Hosts(coordinator="a:1", processes=2, process_id=1)) == named


def child_that(action: str) -> subprocess.Popen[str]:
    """Start a process whose child does something; it says `ready` before."""
    code = (
        "import os, signal, sys, time\n"
        "from realm_jax.commands.hosts import _go_on_in_a_child\n"
        "from realm_jax.errors import HostsError\n"
        "try:\n    _go_on_in_a_child()\nexcept HostsError as error:\n    sys.exit(str(error))\n"
        f"print('ready', os.getpid(), flush=True)\n{action}\n"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("action", "code", "said"),
    [
        ("sys.exit(0)", 0, ""),
        ("sys.exit(2)", 2, ""),
        ("os.abort()", 1, "this one ended by SIGABRT. The one that ended first says why."),
    ],
)
def test_the_parent_ends_as_its_child_does_and_says_what_killed_it(action, code, said):
    with child_that(action) as process:
        printed, errors = process.communicate(timeout=60)
    assert process.returncode == code and printed.startswith("ready") and said in errors


def test_a_request_to_stop_is_passed_on_to_the_child():
    # A signal that comes just before one long sleep would be handled after it.
    waiting = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\nprint('set', flush=True)\n"
        "for _ in range(3000):\n    time.sleep(0.02)"
    )
    with child_that(waiting) as process:
        assert process.stdout is not None
        process.stdout.readline(), process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 5


def test_who_kills_the_parent_kills_the_child():
    """The child holds the pipe: it is at its end when the child is."""
    with child_that("time.sleep(60)") as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        assert child != process.pid
        os.kill(process.pid, signal.SIGKILL)
        assert process.stdout.read() == ""
        process.wait(60)
