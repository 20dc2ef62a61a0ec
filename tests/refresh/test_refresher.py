"""The refresher: when it starts, when the trainer gets the result, what it does with failures.

A build here returns its snapshot's step and parameter. Gates are events; nothing sleeps.
"""

import threading
import traceback
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.errors import RecallError, RefreshError
from realm_jax.refresh.refresher import Refresher, Snapshot
from realm_jax.refresh.workers import WORKERS, InlineWorker, ThreadWorker

WAIT = 10.0  # seconds; only a broken refresher ever waits this long


def value_of(params, step, should_stop):
    return step, float(params["w"])


def drive(refresher, steps, *, first=1):
    """Train: the parameter is the number of steps done. Returns {step: (version, value)} of adoptions."""
    found = {}
    for step in range(first, steps + 1):
        adopted = refresher.after_step(step, {"w": jnp.float32(step)})
        if adopted is not None:
            found[step] = (adopted.version, adopted.value)
    return found


class Gate:
    """A build that waits to be let through, and says when it has begun."""

    def __init__(self):
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, params, step, should_stop):
        self.begun.set()
        assert self.open.wait(WAIT)
        return value_of(params, step, should_stop)


class Failing:
    """A build that fails the first `failures` times."""

    def __init__(self, failures):
        self.left, self.snapshots = failures, []

    def __call__(self, params, step, should_stop):
        self.snapshots.append((step, float(params["w"])))
        if self.left:
            self.left -= 1
            raise OSError("the disk of the index is full")
        return value_of(params, step, should_stop)


@pytest.fixture(params=list(WORKERS))
def worker(request):
    worker = WORKERS[request.param]()
    yield worker
    worker.close()


class Told:
    """A thread worker whose jobs the test waits for."""

    def __init__(self):
        self.worker, self.futures = ThreadWorker(join_seconds=WAIT), []

    def submit(self, job):
        self.futures.append(self.worker.submit(job))
        return self.futures[-1]

    def close(self):
        self.worker.close()

    def finish(self):
        self.futures[-1].exception(WAIT)


@pytest.fixture
def told():
    worker = Told()
    yield worker
    worker.close()


def test_inline_when_ready_adopts_at_the_step_of_the_snapshot():
    refresher = Refresher(value_of, InlineWorker(), every=3)
    assert drive(refresher, 10) == {s: (s, (s, float(s))) for s in (3, 6, 9)}
    assert refresher.skipped == 0 and refresher.pending() is None


@pytest.mark.parametrize(("every", "lag"), [(4, 1), (4, 3), (4, 4), (1, 1), (5, 2)])
def test_at_lag_adopts_exactly_that_many_steps_after_the_snapshot(worker, every, lag):
    refresher = Refresher(value_of, worker, every=every, lag=lag)
    expected = {s + lag: (s, (s, float(s))) for s in range(every, 21, every) if s + lag <= 20}
    assert drive(refresher, 20) == expected
    assert refresher.skipped == 0


def test_at_lag_waits_for_a_refresh_that_is_late(told, monkeypatch):
    gate = Gate()
    refresher = Refresher(gate, told, every=2, lag=1)
    assert drive(refresher, 2) == {}
    assert gate.begun.wait(WAIT)
    wait = told.futures[-1].exception

    def opens_the_gate_when_waited_for():
        gate.open.set()
        return wait(WAIT)

    monkeypatch.setattr(told.futures[-1], "exception", opens_the_gate_when_waited_for)
    assert drive(refresher, 3, first=3) == {3: (2, (2, 2.0))}


def test_at_lag_does_not_adopt_early_what_is_ready(told):
    refresher = Refresher(value_of, told, every=10, lag=5)
    drive(refresher, 10)
    told.finish()
    assert drive(refresher, 14, first=11) == {}
    assert drive(refresher, 15, first=15) == {15: (10, (10, 10.0))}


def test_when_ready_the_trainer_never_waits(told):
    gate = Gate()
    refresher = Refresher(gate, told, every=2)
    assert drive(refresher, 7) == {}  # returns although the build is held up
    assert refresher.pending().step == 2 and refresher.skipped == 2  # at steps 4 and 6
    gate.open.set()
    told.finish()
    assert drive(refresher, 8, first=8) == {8: (2, (2, 2.0))}
    told.finish()
    assert drive(refresher, 9, first=9) == {9: (8, (8, 8.0))}  # the next one started at step 8


def test_zero_never_refreshes(worker):
    refresher = Refresher(value_of, worker, every=0)
    assert drive(refresher, 5) == {} and refresher.pending() is None


def test_the_snapshot_outlives_donated_buffers():
    """The step after the snapshot reuses the buffers of its state; the build still sees the old values."""
    gate = Gate()
    refresher = Refresher(gate, ThreadWorker(), every=1, lag=1)

    @partial(jax.jit, donate_argnums=0)
    def step(params):
        return {"w": params["w"] + 1}

    params = {"w": jnp.float32(41) + jnp.float32(1)}
    refresher.after_step(1, params)
    assert gate.begun.wait(WAIT)
    old, params = params, step(params)
    assert old["w"].is_deleted()
    gate.open.set()
    assert refresher.after_step(2, params).value == (1, 42.0)


@jax.jit
def slow_step(params):
    """Take a few tenths of a second."""
    table = jnp.full((256, 256), params["w"] / 256)
    return {"w": jax.lax.fori_loop(0, 60, lambda _, t: jnp.tanh(t @ t), table)[0, 0]}


def test_a_snapshot_is_taken_before_its_step_is_computed(told):
    """The trainer has only queued the step: it goes on although the parameters are not there yet."""
    refresher = Refresher(value_of, told, every=1)
    refresher.after_step(1, {"w": jnp.float32(1)})  # compiles the copy
    told.finish()
    slow_step({"w": jnp.float32(1)})["w"].block_until_ready()
    params = slow_step({"w": jnp.float32(2)})
    refresher.after_step(2, params)
    assert not params["w"].is_ready()
    told.finish()
    assert refresher.after_step(3, params).value == (2, float(params["w"]))


def test_the_snapshot_is_a_copy_of_host_arrays_too():
    gate = Gate()
    refresher = Refresher(gate, ThreadWorker(), every=1, lag=1)
    weights = np.array(3.0, np.float32)
    refresher.after_step(1, {"w": weights})
    weights[...] = 99.0
    gate.open.set()
    assert refresher.after_step(2, {"w": weights}).value == (1, 3.0)


@pytest.mark.parametrize("lag", [None, 2])
def test_a_failure_is_repeated_with_the_same_snapshot(told, lag):
    build = Failing(2)
    refresher = Refresher(build, told, every=10, lag=lag, retries=2)
    found = drive(refresher, 10)
    for step in range(11, 15):
        told.finish()
        found |= drive(refresher, step, first=step)
    assert list(found.values()) == [(10, (10, 10.0))] and (lag is None or list(found) == [12])
    assert build.snapshots == [(10, 10.0)] * 3


def test_inline_retries_happen_at_once():
    build = Failing(2)
    assert drive(Refresher(build, InlineWorker(), every=3, retries=2), 3) == {3: (3, (3, 3.0))}


def test_retries_start_afresh_with_each_refresh():
    build = Failing(1)
    refresher = Refresher(build, InlineWorker(), every=1, retries=1)
    drive(refresher, 1)
    build.left = 1
    assert drive(refresher, 2, first=2) == {2: (2, (2, 2.0))}


@pytest.mark.parametrize("lag", [None, 1])
def test_a_failure_beyond_the_retries_surfaces_with_its_own_traceback(told, lag):
    build = Failing(100)
    refresher = Refresher(build, told, every=5, lag=lag, retries=2)
    with pytest.raises(
        RefreshError, match=r"within 3 tries.*OSError: the disk.*snapshot of step 5"
    ) as failed:
        drive(refresher, 5)  # may raise already: a thread can fail before it is first looked at
        for step in range(6, 10):
            told.finish()
            drive(refresher, step, first=step)
    assert len(build.snapshots) == 3
    text = "".join(traceback.format_exception(failed.value))
    assert "in __call__" in text and 'raise OSError("the disk of the index is full")' in text
    assert isinstance(failed.value.__cause__, OSError)


def test_a_refused_index_is_not_built_again():
    calls = []

    def refused(params, step, should_stop):
        calls.append(step)
        raise RecallError("recall must reach 0.9", got="0.5", remedy="Use exact.")

    with pytest.raises(RefreshError, match="try 1, snapshot of step 2"):
        drive(Refresher(refused, InlineWorker(), every=2, retries=5), 2)
    assert calls == [2]


def test_failures_before_the_last_are_told_too():
    messages = iter(["the disk is full", "the disk is gone", "the disk burns"])

    def fails(params, step, should_stop):
        raise OSError(next(messages))

    refresher = Refresher(fails, InlineWorker(), every=1, retries=2)
    with pytest.raises(RefreshError, match="the disk burns") as failed:
        drive(refresher, 1)
    assert failed.value.__cause__.__notes__ == [
        "try 1 had failed with OSError: the disk is full",
        "try 2 had failed with OSError: the disk is gone",
    ]
    assert refresher.retried == 2


def test_the_trainer_may_go_on_after_a_failure_it_caught():
    build = Failing(1)
    refresher = Refresher(build, InlineWorker(), every=2, retries=0)
    with pytest.raises(RefreshError):
        drive(refresher, 2)
    assert refresher.pending() is None
    assert drive(refresher, 4, first=3) == {4: (4, (4, 4.0))}


def test_what_is_no_error_but_an_exit_is_not_tried_again(told):
    calls = []

    def leaves(params, step, should_stop):
        calls.append(step)
        raise SystemExit(3)

    refresher = Refresher(leaves, told, every=1, lag=1, retries=5)
    drive(refresher, 1)
    with pytest.raises(RefreshError, match="SystemExit"):
        drive(refresher, 2, first=2)
    assert calls == [1]


def test_close_stops_a_build_in_flight():
    begun, stopped = threading.Event(), threading.Event()

    def until_asked(params, step, should_stop):
        begun.set()
        turns = threading.Event()
        while not should_stop():
            turns.wait(0.001)  # lets the other thread run
        stopped.set()

    refresher = Refresher(until_asked, ThreadWorker(join_seconds=WAIT), every=1)
    drive(refresher, 1)
    assert begun.wait(WAIT)
    refresher.close()
    assert stopped.is_set()


@pytest.mark.parametrize("stop_at", [8, 9, 10, 11, 12])
def test_a_resumed_refresh_gives_the_same_version_at_the_same_step(worker, stop_at):
    """every 4, lag 3: stopped before, at and after a snapshot (8), and at its adoption (11)."""
    whole = drive(Refresher(value_of, worker, every=4, lag=3), 20)
    before = Refresher(value_of, InlineWorker(), every=4, lag=3)
    found = drive(before, stop_at)
    snapshot = before.pending()
    assert (snapshot is None) == (stop_at == 11)
    after = Refresher(value_of, WORKERS["thread"](), every=4, lag=3)
    if snapshot is not None:
        after.resume(Snapshot(snapshot.step, jax.device_get(snapshot.params)))  # as a checkpoint holds it
        assert after.pending().step == snapshot.step
        assert isinstance(after.pending().params["w"], jax.Array)  # not sent there again with every batch
    found |= drive(after, 20, first=stop_at + 1)
    assert found == whole


def test_seconds_are_those_from_snapshot_to_adoption():
    now = [100.0]
    refresher = Refresher(value_of, InlineWorker(), every=2, lag=1, clock=lambda: now[0])
    drive(refresher, 2)
    now[0] = 107.5
    assert refresher.after_step(3, {"w": jnp.float32(3)}).seconds == 7.5
