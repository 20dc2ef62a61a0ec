"""The loop, with a state that only counts."""

import signal
import subprocess
import sys
import threading
from dataclasses import replace

import jax.numpy as jnp
import pytest

from realm_jax.loop import StopOnSignal, train
from realm_jax.train.state import TrainState


def state_at(step):
    return TrainState(step=jnp.int32(step), params={"seen": []}, opt_state=(), key=jnp.zeros(2, jnp.uint32))


def step_fn(state, *inputs):
    params = {"seen": [*state.params["seen"], inputs]}
    return replace(state, step=state.step + 1, params=params), {"loss": (len(params["seen"]), 1)}


def run(state, batches, *, stop_at, hooks=(), should_stop=lambda: False):
    return train(
        state,
        stream=iter(batches),
        inputs=lambda done, params, batch: (done, len(params["seen"]), batch),
        step_fn=step_fn,
        hooks=hooks,
        stop_at=stop_at,
        should_stop=should_stop,
    )


def test_every_step_takes_one_batch_and_sees_the_parameters_before_it():
    state = run(state_at(0), "abcdef", stop_at=4)
    assert int(state.step) == 4
    assert state.params["seen"] == [(0, 0, "a"), (1, 1, "b"), (2, 2, "c"), (3, 3, "d")]


def test_it_goes_on_where_the_state_is():
    assert run(state_at(3), "de", stop_at=5).params["seen"] == [(3, 0, "d"), (4, 1, "e")]


@pytest.mark.parametrize("stop_at", [0, 3])
def test_nothing_is_left_to_do(stop_at):
    state = state_at(3)
    assert run(state, "", stop_at=stop_at) is state


def test_hooks_come_in_order_with_steps_done_and_the_new_state():
    told = []

    def hook(name):
        return lambda done, state, metrics: told.append((name, done, int(state.step), metrics["loss"][0]))

    run(state_at(0), "ab", stop_at=2, hooks=[hook("refresh"), hook("log")])
    assert told == [("refresh", 1, 1, 1), ("log", 1, 1, 1), ("refresh", 2, 2, 2), ("log", 2, 2, 2)]


def test_a_request_to_stop_is_heard_after_a_whole_step_and_its_hooks():
    told = []
    state = run(
        state_at(0),
        "abc",
        stop_at=3,
        hooks=[lambda done, state, metrics: told.append(done)],
        should_stop=lambda: len(told) == 2,
    )
    assert told == [1, 2] and int(state.step) == 2


@pytest.mark.parametrize("place", ["hook", "inputs", "stream"])
def test_failures_surface(place):
    def fails(*args):
        raise ValueError(place)

    def broken():
        yield "a"
        raise ValueError(place)

    with pytest.raises(ValueError, match=place):
        train(
            state_at(0),
            stream=broken() if place == "stream" else iter("ab"),
            inputs=fails if place == "inputs" else lambda done, params, batch: (batch,),
            step_fn=step_fn,
            hooks=[fails] if place == "hook" else [],
            stop_at=2,
        )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_after_its_step(number):
    before = signal.getsignal(number)

    def hook(done, state, metrics):
        if done == 2:
            signal.raise_signal(number)

    with StopOnSignal() as should_stop:
        state = run(state_at(0), "abcdef", stop_at=6, hooks=[hook], should_stop=should_stop)
        assert should_stop()
    assert int(state.step) == 2 and signal.getsignal(number) is before


ASKED = """
import signal, sys
from realm_jax.loop import StopOnSignal
with StopOnSignal() as should_stop:
    for _ in range(int(sys.argv[1])):
        signal.raise_signal(signal.SIGTERM)
    print(should_stop(), flush=True)
"""


@pytest.mark.parametrize(("times", "status", "said"), [(1, 0, "True\n"), (2, -signal.SIGTERM, "")])
def test_asked_twice_it_does_not_insist(times, status, said):
    command = [sys.executable, "-c", ASKED, str(times)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (status, said)


def test_off_the_main_thread_signals_are_left_alone():
    before, found = signal.getsignal(signal.SIGTERM), []

    def enter():
        with StopOnSignal() as should_stop:
            found.append((signal.getsignal(signal.SIGTERM), should_stop()))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [(before, False)]
