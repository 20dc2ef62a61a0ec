"""The folder between trainer and worker: all of a request or none of it, on a disk and in an object store."""

import json

import numpy as np
import pytest
from etils.epath import backend
from fsspec.implementations.memory import MemoryFileSystem

from realm_jax.errors import MissingExtra
from realm_jax.index.exact import ExactIndex
from realm_jax.index.manifest import IndexManifest
from realm_jax.index.store import open_version, publish, version_folder
from realm_jax.refresh.exchange import ANSWER, REQUEST, Exchange

PARAMS = {
    "tower": {"dense": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3) / 7}, "scale": np.ones(2)}
}


@pytest.fixture(params=["disk", "object store"])
def sides(request, tmp_path, monkeypatch):
    """The trainer's and the worker's view of one folder."""
    folder = tmp_path / "exchange"
    if request.param == "object store":
        memory = MemoryFileSystem()
        memory.store.clear()
        memory.pseudo_dirs[:] = [""]
        monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: memory)
        folder = "gs://bucket/exchange"
    return Exchange(folder), Exchange(folder)


def test_a_request_arrives_as_it_was_asked_and_is_answered_once(sides):
    trainer, worker = sides
    assert worker.request() is None
    asked = trainer.ask(PARAMS, {"version": 7})
    request = worker.request()
    assert request == asked and request.values == {"version": 7} and worker.is_wanted(request)
    got = worker.params(request)
    assert got["tower"]["dense"]["kernel"].dtype == np.float32
    np.testing.assert_array_equal(got["tower"]["dense"]["kernel"], PARAMS["tower"]["dense"]["kernel"])
    np.testing.assert_array_equal(got["tower"]["scale"], PARAMS["tower"]["scale"])
    assert trainer.answer(asked) is None
    worker.reply(request, {"files": []})
    assert trainer.answer(asked) == {"files": []}
    assert worker.request() is None


def test_what_processes_of_a_worker_have_embedded_goes_with_the_request(sides):
    trainer, worker = sides
    trainer.ask(PARAMS, {"version": 7})
    request, rows = (
        worker.request(),
        [np.arange(6, dtype=np.float32).reshape(3, 2), np.zeros((0, 0), np.float32)],
    )
    for process, own in enumerate(rows):
        worker.put_rows(request, process, own)
    for process, own in enumerate(rows):
        np.testing.assert_array_equal(worker.rows(request, process), own)
    trainer.clear()
    with pytest.raises(FileNotFoundError):
        worker.rows(request, 0)


def test_a_request_that_was_taken_back_or_replaced_is_not_wanted(sides):
    trainer, worker = sides
    trainer.ask(PARAMS, {"version": 7})
    first = worker.request()
    again = trainer.ask(PARAMS, {"version": 7})  # tried again: the same values, another request
    assert not worker.is_wanted(first) and worker.is_wanted(again)
    worker.reply(first, {"failure": {}})  # comes too late
    assert trainer.answer(again) is None and worker.request() == again
    trainer.clear()
    assert not worker.is_wanted(again) and worker.request() is None
    with pytest.raises(FileNotFoundError):
        worker.params(again)
    trainer.clear()


@pytest.mark.parametrize("name", [REQUEST, ANSWER])
def test_what_is_cut_short_is_not_there_yet(tmp_path, name):
    trainer, worker = Exchange(tmp_path), Exchange(tmp_path)
    asked = trainer.ask(PARAMS, {"version": 7})
    worker.reply(asked, {"files": []})
    whole = (tmp_path / name).read_bytes()
    for size in range(len(whole)):
        (tmp_path / name).write_bytes(whole[:size])
        if name == REQUEST:
            assert worker.request() is None and not worker.is_wanted(asked)
        else:
            assert trainer.answer(asked) is None and worker.request() == asked
    json.loads(whole)  # so there was something to cut


def test_versions_go_through_it_whole(sides, tmp_path):
    trainer, worker = sides
    embeddings = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    manifest = IndexManifest(
        version=12,
        corpus_hash="this",
        count=9,
        dimension=4,
        engine="exact",
        settings={"storage": "float32"},
        recall=1.0,
        recall_k=3,
        recall_sample=2,
        shards=[12, 8],
    )
    publish(tmp_path / "there", embeddings, ExactIndex(embeddings), manifest)
    files = worker.put_version(12, tmp_path / "there")
    np.testing.assert_array_equal(trainer.embeddings(12), embeddings)
    trainer.take_version(12, files, tmp_path / "here")
    _, found, read = open_version(tmp_path / "here", 12, corpus_hash="this")
    np.testing.assert_array_equal(found, embeddings)
    assert read == manifest
    trainer.drop_version(12)
    with pytest.raises(FileNotFoundError):
        trainer.take_version(12, files, tmp_path / "here")
    assert version_folder(tmp_path / "here", 12).is_dir()  # what is there stays


def test_signs_of_life(sides):
    trainer, worker = sides
    assert trainer.sign_of_life() is None
    worker.show_life({"beat": 1})
    worker.show_life({"beat": 2})
    assert trainer.sign_of_life() == {"beat": 2}


def test_a_store_without_its_package_is_named(monkeypatch):
    def missing(name):
        raise ImportError("no gcsfs")

    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", missing)
    with pytest.raises(MissingExtra, match="gcsfs for gs://"):
        Exchange("gs://bucket/exchange")
