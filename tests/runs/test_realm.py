"""REALM and its refresher: the trainer never waits when it need not, and failures reach it whole."""

import dataclasses
import threading
import traceback

import pytest

import realm_jax.runs.refreshing as module
from realm_jax.errors import RefreshError
from realm_jax.index.store import versions
from realm_jax.refresh.workers import WORKERS, InlineWorker, ThreadWorker
from realm_jax.runs.realm import run_realm
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import logged, same

WAIT = 60.0  # seconds; only a broken run ever waits this long


class Gated(ThreadWorker):
    """A worker whose jobs wait until the trainer has done all its steps and closes it."""

    def __init__(self):
        super().__init__(join_seconds=WAIT)
        self.gate = threading.Event()
        self.jobs = 0

    def submit(self, job):
        self.jobs += 1

        def gated(should_stop):
            assert self.gate.wait(WAIT)
            return job(should_stop)

        return super().submit(gated)

    def close(self):
        self._stop.set()
        self.gate.set()
        super().close()


def test_when_ready_the_trainer_never_waits_for_a_refresh(make_config, tmp_path, monkeypatch):
    """The first refresh is held up to the end: the run gets there all the same, on its first index."""
    worker, workdir = Gated(), tmp_path / "run"
    monkeypatch.setitem(WORKERS, "thread", lambda: worker)
    config = make_config(every=2, adoption="when_ready", worker="thread")
    run_realm(config, workdir, stop_at=5)
    assert worker.jobs == 1
    assert list(logged(workdir, "index_version").values()) == [0] * 5
    assert list(logged(workdir, "staleness_steps").values()) == [1, 2, 3, 4, 5]
    assert list(logged(workdir, "refreshes_skipped").values()) == [0, 0, 0, 1, 1]
    assert versions(workdir / "index") == [0]  # what was asked to stop has published nothing
    # It is run again when the run goes on: adopted at step 6, where the next one starts.
    assert Checkpoints(workdir).record()["pending_step"] == 2
    monkeypatch.setitem(WORKERS, "thread", InlineWorker)
    run_realm(config, workdir, stop_at=7)
    assert list(logged(workdir, "index_version").values()) == [0] * 5 + [2, 6]


@pytest.mark.parametrize(("worker", "adoption"), [("inline", "when_ready"), ("thread", "at_lag")])
def test_a_failing_refresh_ends_the_run_with_its_own_traceback(
    make_config, tmp_path, monkeypatch, worker, adoption
):
    tries = []

    def builder(*arguments, **settings):
        built = real(*arguments, **settings)

        def build(params, version, should_stop, **more):
            if version:
                tries.append(version)
                raise OSError("the disk of the index is full")
            return built(params, version, should_stop, **more)

        return build

    real = module.version_builder
    monkeypatch.setattr(module, "version_builder", builder)
    config = make_config(every=2, worker=worker, adoption=adoption, lag=1, retries=1)
    with pytest.raises(RefreshError, match="OSError: the disk of the index is full") as failed:
        run_realm(config, tmp_path / "run")
    assert tries == [2, 2]
    assert "in build" in "".join(traceback.format_exception(failed.value))
    assert versions(tmp_path / "run" / "index") == [0]  # the index in use is untouched
    assert not any(thread.name == "refresher" for thread in threading.enumerate())
    # The cause repaired, the same command trains.
    monkeypatch.setattr(module, "version_builder", real)
    run_realm(config, tmp_path / "run", stop_at=3)
    assert Checkpoints(tmp_path / "run").latest() == 3


def test_the_reading_warm_up_trains_encoder_and_span_scorer_alone_and_never_refreshes(make_config, tmp_path):
    config = make_config(every=1, worker="inline")
    read = dataclasses.replace(
        config.read, steps=2, batch_size=4, evidence_pool=4, log_every=1, span_weight=1.0
    )
    config = dataclasses.replace(config, read=read)
    run_realm(config, tmp_path / "start", stop_at=0)
    run_realm(config, tmp_path / "read", phase_name="read", start_from=tmp_path / "start")
    before, after = (Checkpoints(tmp_path / name).restore_params() for name in ("start", "read"))
    assert {name: same(before[name], after[name]) for name in before} == {
        "embedder": True,
        "encoder": False,
        "reader": False,
    }
    moved = {name for name in before["reader"] if not same(before["reader"][name], after["reader"][name])}
    assert moved == {"start", "end", "span_norm", "score"}  # its BERT is not used, and not decayed
    assert logged(tmp_path / "read", "span_loss")
    assert versions(tmp_path / "read" / "index") == [0]
    assert logged(tmp_path / "read", "loss") and not logged(tmp_path / "read", "staleness_steps")
