"""One phase: what is logged when, and which checkpoints are gone on from."""

import dataclasses

import numpy as np
import pytest

from realm_jax.config import Config, OptimizerConfig, RefreshConfig, to_dict
from realm_jax.errors import CheckpointError, TrainingError
from realm_jax.runs.phase import LogHook, check_same_run


class Writer:
    def __init__(self):
        self.lines = {}

    def write(self, step, values):
        self.lines[step] = dict(values)


class Quiet:
    def __init__(self):
        self.notes = []

    def update(self, done, note=""):
        self.notes.append((done, note))


def log_hook(every, last, clock=lambda: 0.0, extra=lambda step: {}, **speed):
    writer, progress = Writer(), Quiet()
    return (
        LogHook(every=every, last=last, writer=writer, progress=progress, extra=extra, clock=clock, **speed),
        writer,
        progress,
    )


def drive(hook, losses, *, first=1):
    for step, loss in enumerate(losses, start=first):
        hook(step, None, {"loss": (np.float32(loss), np.float32(1))})


def test_the_first_every_nth_and_the_last_step_are_logged_as_means_since_the_line_before():
    hook, writer, _ = log_hook(every=4, last=10)
    drive(hook, range(1, 11))
    assert {step: values["loss"] for step, values in writer.lines.items()} == {
        1: 1.0,
        4: (2 + 3 + 4) / 3,
        8: (5 + 6 + 7 + 8) / 4,
        10: (9 + 10) / 2,
    }
    assert hook.latest["loss"] == 9.5


def test_seconds_are_those_of_one_step():
    now = [100.0]
    hook, writer, _ = log_hook(every=4, last=8, clock=lambda: now[0])
    now[0] = 103.0
    drive(hook, [1])
    now[0] = 109.0
    drive(hook, [1, 1, 1], first=2)
    assert writer.lines[1]["step_seconds"] == 3.0 and writer.lines[4]["step_seconds"] == 2.0


def test_a_line_says_how_fast_a_step_was_and_what_the_host_waited_for():
    now, spent = [0.0], {"data": 0.0, "search": 0.0}
    hook, writer, _ = log_hook(
        every=4, last=4, clock=lambda: now[0], flops=600, peak=1000.0, spent=lambda: dict(spent)
    )
    drive(hook, [1])
    assert "peak_share" not in writer.lines[1]  # no time has passed
    now[0], spent["data"], spent["search"] = 6.0, 1.5, 3.0
    drive(hook, [1, 1, 1], first=2)
    values = writer.lines[4]
    assert (values["step_seconds"], values["data_seconds"], values["search_seconds"]) == (2.0, 0.5, 1.0)
    assert (values["model_flops_per_second"], values["peak_share"]) == (300.0, 0.3)


def test_staleness_is_asked_for_when_a_line_is_written():
    asked = []

    def extra(step):
        asked.append(step)
        return {"staleness_steps": step - 3}

    hook, writer, progress = log_hook(every=4, last=4, extra=extra)
    drive(hook, [1, 1, 1, 1])
    assert asked == [1, 4] and writer.lines[4]["staleness_steps"] == 1
    assert progress.notes[-1] == (4, "loss=1.000 staleness_steps=1.000")


def test_a_loss_that_is_not_finite_stops_the_run_after_it_is_written():
    hook, writer, _ = log_hook(every=4, last=8)
    with pytest.raises(TrainingError, match="loss in steps 2 to 4"):
        drive(hook, [1, 1, np.nan, 1])
    assert np.isnan(writer.lines[4]["loss"])


def test_the_same_phase_and_config_go_on():
    check_same_run({"phase": "ict", "config": to_dict(Config())}, name="ict", config=Config())


def test_a_corpus_may_have_moved():
    """What is in it is known by its hash: a stream goes on with that corpus only, as does an index."""
    record = {"phase": "ict", "config": to_dict(Config(corpus="here", train_questions="q.jsonl"))}
    check_same_run(record, name="ict", config=Config(corpus="there", train_questions="other/q.jsonl"))


def test_every_value_that_differs_is_named():
    config = Config()
    other = dataclasses.replace(
        config,
        seed=1,
        ict=dataclasses.replace(config.ict, optimizer=OptimizerConfig(learning_rate=1.0)),
    )
    record = {"phase": "ict", "config": to_dict(config)}
    with pytest.raises(CheckpointError, match=r"ict\.optimizer\.learning_rate, seed"):
        check_same_run(record, name="ict", config=other)


def test_a_value_that_only_the_run_has_differs():
    saved = to_dict(Config())
    saved["index"]["shards"] = 8
    with pytest.raises(CheckpointError, match=r"other values of index\.shards"):
        check_same_run({"phase": "ict", "config": saved}, name="ict", config=Config())


def test_a_value_the_run_does_not_know_yet_had_its_default():
    saved = to_dict(Config())
    del saved["refresh"]["lag"]
    check_same_run({"phase": "ict", "config": saved}, name="ict", config=Config())
    lagging = dataclasses.replace(Config(), refresh=RefreshConfig(adoption="at_lag", lag=3))
    saved["refresh"]["adoption"] = "at_lag"
    with pytest.raises(CheckpointError, match=r"other values of refresh\.lag"):
        check_same_run({"phase": "ict", "config": saved}, name="ict", config=lagging)


def test_another_phase_is_refused():
    with pytest.raises(CheckpointError, match="a folder of its own"):
        check_same_run({"phase": "qa", "config": to_dict(Config())}, name="ict", config=Config())
