"""A worker process: the run it gives, its failures, its end with the trainer and not before.

One test starts a real process. In the others the worker is served on a thread of the test, and what it embeds
is made up.
"""

import dataclasses
import os
import threading
import traceback
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

import realm_jax.runs.refresh_worker as module
from realm_jax.data.corpus import Corpus
from realm_jax.errors import ConfigError, CorpusError, RecallError, RefreshError
from realm_jax.hosts.meeting import Meeting
from realm_jax.index.store import versions
from realm_jax.refresh.exchange import Exchange
from realm_jax.refresh.remote import RemoteError
from realm_jax.runs.live_index import Recipe, publish_version
from realm_jax.runs.realm import run_realm
from realm_jax.runs.refresh_worker import serve_refreshes
from realm_jax.runs.remote_refresh import RemoteBuild
from realm_jax.runs.setup import resolve
from realm_jax.train.checkpoint import Checkpoints
from tests.runs.compare import assert_same_end, logged

WAIT = 60.0  # seconds; only a broken worker ever waits this long
PARAMS = {"embedder": {"w": np.float32(3)}}


@pytest.fixture(scope="module")
def rolling(make_config):
    """Snapshots at steps 2, 4, 6, each of half the blocks, adopted two steps later, where the next begins."""
    return make_config(every=2, adoption="at_lag", lag=2, worker="thread", rolling=2)


@pytest.fixture(scope="module")
def whole(rolling, tmp_path_factory):
    """The run that nothing stopped, with a thread."""
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    run_realm(rolling, workdir, stop_at=7)
    return workdir


def test_a_rolling_run_adopts_a_part_at_a_time_and_says_how_old_the_mixture_is(whole):
    assert list(logged(whole, "index_version").values()) == [0, 0, 0, 2, 2, 4, 4]
    # Twelve blocks, six a part: versions (0, 0), from step 4 on (2, 0), from step 6 on (2, 4).
    ages = [(1,), (2,), (3,), (2, 4), (3, 5), (4, 2), (5, 3)]
    assert list(logged(whole, "staleness_steps").values()) == [sum(age) / len(age) for age in ages]
    assert logged(whole, "staleness_steps_max") == {4: 4, 5: 5, 6: 4, 7: 5}
    assert list(logged(whole, "query_staleness_steps").values()) == [0, 1, 1, 1, 0, 1, 0]
    for unit in ("blocks", "tokens"):
        rates = logged(whole, f"embedded_{unit}_per_second")
        assert rates.keys() == {4, 5, 6, 7} and all(rate > 0 for rate in rates.values())


def test_a_run_with_a_process_of_its_own_equals_that_with_a_thread(rolling, whole, tmp_path, monkeypatch):
    """Versions go through the exchange both ways. Stopped in a refresh, and resumed with the other kind."""
    process = dataclasses.replace(rolling, refresh=dataclasses.replace(rolling.refresh, worker="process"))
    found = tmp_path / "process"
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # as in this process
    run_realm(process, found, stop_at=6)
    exchange = Exchange(found / "exchange")
    assert "refresh: version 2: 6/6 blocks" in (found / "exchange" / "worker.log").read_text()
    with pytest.raises(ProcessLookupError):  # it has ended with the run
        os.kill(exchange.sign_of_life()["pid"], 0)
    assert exchange.request() is None and not (found / "exchange" / "versions").exists()
    assert Checkpoints(found).record()["pending_step"] == 6
    run_realm(rolling, found, stop_at=7)
    assert_same_end(found, whole)
    for name in ("loss", "gradient_norm", "index_version", "staleness_steps", "query_staleness_steps"):
        assert logged(found, name) == logged(whole, name), name
    assert logged(found, "embedded_tokens_per_second").keys() == {4, 5, 6}


@contextmanager
def served(folder, **settings):
    """Serve refreshes on a thread; yields what stops the worker."""
    stop = threading.Event()
    settings = {"devices": 1, "beat_seconds": 0.01, "should_stop": stop.is_set, **settings}
    thread = threading.Thread(target=serve_refreshes, args=(str(folder),), kwargs=settings, daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(WAIT)
        assert not thread.is_alive()


@pytest.fixture
def build(make_config, tmp_path):
    """Make the trainer's build; keywords replace its arguments."""

    def make(**changes):
        config = make_config(silence_seconds=1e6)
        corpus = Corpus.open(config.corpus)
        settings = {"config": resolve(config, corpus), "corpus": corpus, "root": tmp_path / "index"}
        exchange = Exchange(tmp_path / "exchange")
        return RemoteBuild(
            exchange, **{**settings, "mesh": None, "child": None, "meeting": Meeting("index"), **changes}
        )

    return make


def never():
    return False


def made_up(params, version, should_stop, *, corpus, root, **_):
    """Embed block i as (i, the parameter)."""
    rows = np.stack([np.arange(len(corpus)), np.full(len(corpus), params["embedder"]["w"])], axis=1)
    recipe = Recipe("exact", recall_k=3, recall_floor=0.9, recall_sample=4)
    return publish_version(rows.astype(np.float32), version, corpus=corpus, root=root, recipe=recipe)


@pytest.fixture
def embedding(monkeypatch):
    """Choose what workers do for an embedding, those that are at work included."""
    chosen = [made_up]

    def builder(config, *, corpus, root, **_):
        return lambda params, version, should_stop, **more: chosen[-1](
            params, version, should_stop, corpus=corpus, root=root
        )

    monkeypatch.setattr(module, "version_builder", builder)
    return chosen.append


def test_failures_reach_the_trainer_whole_and_the_worker_works_on(build, embedding, tmp_path):
    failures = [OSError("seventh"), RecallError("recall must reach 0.9", got="0.5", remedy="Use exact.")]

    def embed_the_seventh_block(*arguments, **settings):
        if failures:
            raise failures.pop(0)
        return made_up(*arguments, **settings)

    embedding(embed_the_seventh_block)
    remote = build()
    with served(tmp_path / "exchange"):
        with pytest.raises(RemoteError, match="OSError: seventh") as failed:
            remote(PARAMS, 8, never)
        assert "in embed_the_seventh_block" in "".join(traceback.format_exception(failed.value))
        with pytest.raises(RecallError, match=r"0\.9, but got 0\.5\. Use exact"):
            remote(PARAMS, 8, never)
        assert versions(tmp_path / "index") == []
        version = remote(PARAMS, 8, never)
    assert versions(tmp_path / "index") == [8]
    np.testing.assert_array_equal(version.embeddings[:, 0], np.arange(12))
    assert set(version.embeddings[:, 1]) == {3.0}


def test_another_corpus_is_refused_by_the_worker(build, tmp_path):
    remote = build(corpus=SimpleNamespace(content_hash="that"))
    with served(tmp_path / "exchange"), pytest.raises(CorpusError, match="refresh --corpus"):
        remote(PARAMS, 8, never)


def until_asked(begun, ended):
    """Work until asked to stop, as embedding does."""

    def work(params, version, should_stop, **_):
        begun.set()
        turns = threading.Event()
        while not should_stop():
            turns.wait(0.001)  # lets the other threads run
        ended.set()
        raise RefreshError("it runs to its end", got="a request to stop", remedy="None.")

    return work


def test_a_trainer_that_stops_takes_its_request_back(build, embedding, tmp_path):
    begun, ended = threading.Event(), threading.Event()
    embedding(until_asked(begun, ended))
    remote = build()
    with served(tmp_path / "exchange"):
        with pytest.raises(RefreshError, match="a request to stop"):
            remote(PARAMS, 8, begun.is_set)
        assert ended.wait(WAIT)
        embedding(made_up)
        assert build()(PARAMS, 8, never).version == 8  # and the worker is free again


def test_a_worker_that_is_stopped_leaves_the_request_to_the_next(build, embedding, tmp_path):
    begun, ended, found = threading.Event(), threading.Event(), []
    embedding(until_asked(begun, ended))
    remote = build()
    trainer = threading.Thread(target=lambda: found.append(remote(PARAMS, 8, never)), daemon=True)
    with served(tmp_path / "exchange") as stop:
        trainer.start()
        assert begun.wait(WAIT)
        stop.set()
    assert ended.is_set() and not found
    embedding(made_up)
    with served(tmp_path / "exchange"):
        trainer.join(WAIT)
    assert [version.version for version in found] == [8]


def test_a_worker_ends_when_the_trainer_that_started_it_is_gone(tmp_path):
    nobody = os.getppid() + 1
    assert serve_refreshes(str(tmp_path), should_stop=never, parent=nobody, beat_seconds=0.01) == 0


@pytest.mark.parametrize(
    ("settings", "rule"),
    [({"folder": "nowhere"}, "the trainer makes the folder"), ({"devices": 99}, "devices that there are")],
)
def test_what_a_worker_cannot_do_is_refused(tmp_path, settings, rule):
    settings = {"folder": str(tmp_path), **settings}
    with pytest.raises(ConfigError, match=rule):
        serve_refreshes(settings.pop("folder"), should_stop=never, **settings)
