"""Waiting for a worker process: what ends the wait, and how its failures arrive. Clocks are arguments."""

import traceback

import numpy as np
import pytest

from realm_jax.errors import RecallError, RefreshError
from realm_jax.refresh.exchange import Exchange
from realm_jax.refresh.remote import Child, RemoteError, await_answer, from_json, to_json

PARAMS = {"w": np.zeros(2, np.float32)}


class Waits:
    """A trainer that waits; at each pause a second passes and the next of some events happens."""

    def __init__(self, folder, *events):
        self.trainer, self.worker = Exchange(folder), Exchange(folder)
        self.request = self.trainer.ask(PARAMS, {})
        self.now, self.events, self.stopped = 0.0, list(events), False

    def pause(self, seconds):
        assert seconds > 0
        self.now += 1.0
        if self.events:
            self.events.pop(0)(self)

    def __call__(self, *, silence_seconds=5.0, check=lambda: None):
        return await_answer(
            self.trainer,
            self.request,
            should_stop=lambda: self.stopped,
            check=check,
            silence_seconds=silence_seconds,
            clock=lambda: self.now,
            pause=self.pause,
        )


def nothing(waits):
    pass


def beats(waits):
    waits.worker.show_life({"beat": waits.now})


def answers(waits):
    waits.worker.reply(waits.worker.request(), {"files": ["a"]})


def test_the_answer_ends_the_wait(tmp_path):
    waits = Waits(tmp_path, nothing, beats, answers)
    assert waits() == {"files": ["a"]} and waits.now == 3


@pytest.mark.parametrize("beats_before", [0, 1, 9])
def test_silence_ends_it_in_bounded_time_and_a_beating_worker_does_not(tmp_path, beats_before):
    waits = Waits(tmp_path, *[beats] * beats_before)
    with pytest.raises(RefreshError, match=r"no sign of life for 6 seconds.*realm_jax refresh --exchange"):
        waits()
    assert waits.now == beats_before + 6


def test_the_sign_of_a_worker_that_died_before_is_none(tmp_path):
    waits = Waits(tmp_path)
    waits.worker.show_life({"beat": 77})
    with pytest.raises(RefreshError, match="no sign of life"):
        waits()


def test_a_request_to_stop_ends_it(tmp_path):
    waits = Waits(tmp_path, beats, lambda waits: setattr(waits, "stopped", True))
    with pytest.raises(RefreshError, match="a request to stop"):
        waits()
    assert waits.now == 2


def test_a_death_that_is_seen_ends_it_at_once(tmp_path):
    def dead():
        raise RefreshError("it lives", got="exit code -9", remedy="Start it.")

    with pytest.raises(RefreshError, match="exit code -9"):
        Waits(tmp_path)(check=dead)


def failed(error):
    """Describe an error as the worker does, while it is being handled."""
    try:
        raise error
    except type(error) as caught:
        return to_json(caught)


def test_a_failure_arrives_with_the_traceback_of_the_worker(tmp_path):
    def fails(waits):
        waits.worker.reply(waits.request, {"failure": failed(OSError("the disk is full"))})

    with pytest.raises(RemoteError, match="OSError: the disk is full") as caught:
        Waits(tmp_path, fails)()
    text = "".join(traceback.format_exception(caught.value))
    assert "In the worker process:" in text and "in failed" in text and "raise error" in text


def test_a_broken_rule_arrives_as_the_same_error():
    """So an index that was refused is not built again."""
    error = from_json(failed(RecallError("recall must reach 0.9", got=0.5, remedy="Use exact.")))
    assert type(error) is RecallError
    assert str(error) == "recall must reach 0.9, but got 0.5. Use exact."


def test_a_process_that_ends_is_seen_with_its_last_words(tmp_path):
    child = Child(["fly"], log=tmp_path / "logs" / "worker.log", environment={})
    child.check()  # not started yet
    child.start()
    child._process.wait()
    with pytest.raises(RefreshError, match=r"(?s)exit code 2.*worker\.log.*no command 'fly'"):
        child.check()
    first = child._process.pid
    child.start()  # a retry starts another
    assert child._process.pid != first
    child.close()
    child.close()
