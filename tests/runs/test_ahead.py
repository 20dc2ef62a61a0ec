"""Inputs one step ahead: which parameters they see, positions, dropped ones, failures."""

import json
import threading
from functools import partial

import numpy as np
import pytest

from realm_jax.refresh.workers import DeferredWorker, InlineWorker, ThreadWorker
from realm_jax.runs.ahead import Ahead

WAIT = 60.0  # seconds; only a broken test ever waits this long
WORKERS = {
    "thread": partial(ThreadWorker, name="inputs"),
    "inline": InlineWorker,
    "deferred": DeferredWorker,
    "none": lambda: None,
}


class Letters:
    """A stream of a, b, c, ... whose position is a number."""

    def __init__(self):
        self.position = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.position += 1
        return "abcdefghij"[self.position - 1]

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


class Inputs:
    """The parameters, a number, are embedded; what was embedded with is told in the inputs."""

    def __init__(self, fails_at=None):
        self.fails_at = fails_at

    def begin(self, params, batch):
        return np.array([params / 3], np.float32)

    def finish(self, step, batch, begun):
        if step == self.fails_at:
            raise ValueError(f"no inputs of step {step}")
        return step, batch, float(begun[0] * 3)


def train(ahead, *, first=0, steps):
    """Run steps of a model whose parameters count them."""
    seen = []
    for step in range(first, first + steps):
        batch = next(ahead)
        seen.append(ahead(step, step, batch))
    return seen


@pytest.fixture(params=WORKERS)
def make(request):
    made = []

    def build(inputs=None, **settings):
        made.append(Ahead(Letters(), inputs or Inputs(), WORKERS[request.param](), **settings))
        return made[-1]

    yield build
    for ahead in made:
        ahead.close()


@pytest.mark.parametrize("kind", ["thread", "inline", "deferred"])
def test_inputs_are_made_with_the_parameters_from_before_the_step_before(kind):
    ahead = Ahead(Letters(), Inputs(), WORKERS[kind]())
    assert train(ahead, steps=4) == [(0, "a", 0.0), (1, "b", 0.0), (2, "c", 1.0), (3, "d", 2.0)]
    ahead.close()


def test_without_a_worker_they_are_made_with_the_current_ones():
    ahead = Ahead(Letters(), Inputs(), None)
    assert train(ahead, steps=3) == [(0, "a", 0.0), (1, "b", 1.0), (2, "c", 2.0)]


@pytest.mark.parametrize("stop", [0, 1, 2, 5])
def test_a_position_gives_the_same_remainder_wherever_it_is_taken(make, stop):
    whole = make()
    expected = train(whole, steps=6)
    first, second = make(), make()
    seen = train(first, steps=stop)
    second.set_state(json.loads(json.dumps(first.get_state())))
    assert seen + train(second, first=stop, steps=6 - stop) == expected
    assert second.get_state() == whole.get_state()
    # Going back in the same object is the same thing.
    second.set_state(first.get_state())
    assert train(second, first=stop, steps=6 - stop) == expected[stop:]


def test_what_was_made_with_another_version_of_the_index_is_made_anew(make):
    version = [0]
    ahead, resumed = make(version=lambda: version[0]), make(version=lambda: version[0])
    train(ahead, steps=3)
    version[0] = 3
    assert "begun" not in ahead.get_state()
    resumed.set_state(ahead.get_state())
    for one in (ahead, resumed):
        assert train(one, first=3, steps=1) == [(3, "d", 3.0)]
    assert train(ahead, first=4, steps=2) == train(resumed, first=4, steps=2)


@pytest.mark.parametrize(
    ("kind", "ages"), [("thread", [0, 1, 1]), ("inline", [0, 1, 1]), ("none", [0, 0, 0])]
)
def test_the_age_of_the_query_embeddings_is_told_and_never_above_a_step(kind, ages):
    version = [0]
    first, second = (
        Ahead(Letters(), Inputs(), WORKERS[kind](), version=lambda: version[0]) for _ in range(2)
    )
    assert first.values(0) == {}
    for step, age in enumerate(ages):
        train(first, first=step, steps=1)
        assert first.values(step + 1) == {"query_staleness_steps": age}
    second.set_state(first.get_state())
    train(second, first=3, steps=1)  # what is restored is as old as it was
    assert second.values(4) == {"query_staleness_steps": ages[-1]}
    version[0] = 3
    train(first, first=3, steps=1)
    assert first.values(4) == {"query_staleness_steps": 0}  # made anew
    first.close()
    second.close()


def test_a_failure_is_raised_where_the_inputs_are_asked_for(make):
    ahead = make(Inputs(fails_at=2))
    train(ahead, steps=2)
    with pytest.raises(ValueError, match="no inputs of step 2"):
        train(ahead, first=2, steps=1)


def test_inputs_that_need_no_parameters_leave_nothing_in_the_position(make):
    class Plain(Inputs):
        def begin(self, params, batch):
            return None

        def finish(self, step, batch, begun):
            assert begun is None
            return step, batch

    ahead = make(Plain())
    assert train(ahead, steps=2) == [(0, "a"), (1, "b")] and ahead.values(2) == {}
    assert ahead.get_state() == {"position": 2}


def test_the_trainer_does_not_wait_for_what_it_does_not_need_yet():
    """The job of step 1 is held until the inputs of step 0 have been returned."""
    returned = threading.Event()

    class Held(Inputs):
        def finish(self, step, batch, begun):
            assert step == 0 or returned.wait(WAIT)
            return super().finish(step, batch, begun)

    ahead = Ahead(Letters(), Held(), WORKERS["thread"]())
    assert ahead(0, 0, next(ahead)) == (0, "a", 0.0)
    returned.set()
    assert ahead(1, 1, next(ahead)) == (1, "b", 0.0)
    ahead.close()
    assert not any(thread.name == "inputs" for thread in threading.enumerate())
