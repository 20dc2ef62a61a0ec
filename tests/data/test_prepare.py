"""Preparation: the same corpus however it is made, bad records accounted for, nothing half-written."""

import errno
import gzip
import io
import json
import signal
import subprocess
import sys
import time
import tracemalloc
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest

import realm_jax.data.prepare as module
from realm_jax.data.corpus import Corpus
from realm_jax.data.encode import start_worker
from realm_jax.data.prepare import prepare
from realm_jax.errors import ConfigError, CorpusError
from realm_jax.text.tokenizer import Tokenizer
from tests.data.conftest import records, write_jsonl

FILES = (
    "titles",
    "title_lengths",
    "bodies",
    "body_lengths",
    "sentences",
    "sentence_offsets",
    "spans",
    "span_offsets",
    "texts",
    "text_offsets",
    "uids",
)


class Silent:
    """Keeps what it is told."""

    def __init__(self):
        self.told = []

    def update(self, done, note=""):
        self.told.append((done, note))


def test_the_report_and_the_manifest_count_alike(corpus, source):
    counts = corpus.manifest["counts"]
    assert counts["documents"] == 60 and counts["blocks"] == len(corpus) > 60
    assert counts["characters"] == sum(len(r["text"]) for r in records(60))
    assert counts["wordpieces"] == int(corpus.lengths().sum()) - len(corpus)
    assert counts["sentences"] == sum(len(corpus.sentences(i)) for i in range(len(corpus)))
    assert corpus.manifest["sources"] == [str(source)] and corpus.manifest["bad_records"] == {}


@pytest.mark.parametrize(("workers", "chunk"), [(1, 256), (1, 7), (2, 7)])
def test_the_number_of_workers_and_chunks_does_not_matter(
    corpus, source, tmp_path, monkeypatch, workers, chunk
):
    monkeypatch.setattr(module, "CHUNK_RECORDS", chunk)
    report = prepare(
        [source], tmp_path / "c", tokenizer=corpus.path, max_block_tokens=40, title_tokens=8, workers=workers
    )
    assert report.content_hash == corpus.content_hash
    for name in FILES:
        assert (tmp_path / "c" / f"{name}.bin").read_bytes() == (corpus.path / f"{name}.bin").read_bytes(), (
            name
        )


def test_gzip_and_two_files_give_the_same_tokens(corpus, source, tmp_path):
    lines = source.read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[:20])))
    (tmp_path / "b.jsonl").write_bytes(b"".join(lines[20:]))
    report = prepare(
        [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl"],
        tmp_path / "c",
        tokenizer=corpus.path / "vocab.txt",
        max_block_tokens=40,
        title_tokens=8,
    )
    assert report.content_hash == corpus.content_hash


BAD = [
    b'{"title": "a"',
    b'{"title": "a"}',
    b'{"title": "a", "text": "\xff"}',
    b'{"title": "a", "text": ""}',
    b'{"title": "a", "text": "\x00 \\u200b"}',
    b"7",
]


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_records_are_counted_by_reason_and_named_with_file_and_line(
    corpus, tmp_path, monkeypatch, workers
):
    monkeypatch.setattr(module, "CHUNK_RECORDS", 3)
    path = tmp_path / "mixed.jsonl"
    good = [json.dumps(r).encode() for r in records(9)]
    path.write_bytes(b"\n".join([*good[:4], *BAD[:3], *good[4:], *BAD[3:]]))
    progress = Silent()
    report = prepare([path], tmp_path / "c", tokenizer=corpus.path, workers=workers, progress=progress)
    assert report.bad_counts == {
        "broken_json": 2,
        "missing_field": 1,
        "invalid_utf8": 1,
        "empty_text": 1,
        "not_an_object": 1,
    }
    assert [bad.line for bad in report.bad_records] == [5, 6, 7, 13, 14, 15]
    assert all(bad.file == str(path) for bad in report.bad_records)
    assert report.documents == 9
    manifest = Corpus.open(tmp_path / "c").manifest
    assert manifest["bad_records"] == report.bad_counts
    assert manifest["bad_examples"][0].startswith(f"{path}:5: broken_json")
    lines = (tmp_path / "c" / "bad_records.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [bad._asdict() for bad in report.bad_records]
    # Bad records leave no trace in the corpus.
    clean = prepare([write_jsonl(tmp_path / "good.jsonl", records(9))], tmp_path / "d", tokenizer=corpus.path)
    assert clean.content_hash == report.content_hash
    assert progress.told[-1][1] == f"{report.blocks} blocks"


@pytest.mark.parametrize("how", [{"vocab_size": 300}, {"tokenizer": True}])
def test_strict_stops_at_the_first_bad_record_and_leaves_nothing(corpus, tmp_path, how):
    path = tmp_path / "mixed.jsonl"
    path.write_bytes(b"\n".join([json.dumps(records(1)[0]).encode(), *BAD]))
    how = {"tokenizer": corpus.path} if "tokenizer" in how else how
    with pytest.raises(CorpusError, match=r"mixed.jsonl:2: broken_json"):
        prepare([path], tmp_path / "out" / "c", strict=True, **how)
    assert list((tmp_path / "out").iterdir()) == []


def test_an_input_without_a_sound_record_is_refused(corpus, tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"\n".join(BAD))
    with pytest.raises(CorpusError, match="at least one block.*6 bad records"):
        prepare([path], tmp_path / "c", tokenizer=corpus.path)
    assert not (tmp_path / "c").exists()


def test_an_existing_folder_is_refused_unless_it_is_to_be_replaced(corpus, source, tmp_path):
    out = tmp_path / "c"
    prepare([source], out, tokenizer=corpus.path)
    before = (out / "manifest.json").read_bytes()
    with pytest.raises(CorpusError, match="new folder"):
        prepare([source], out, tokenizer=corpus.path)
    # A replacement that fails leaves the old one in place.
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"7")
    with pytest.raises(CorpusError):
        prepare([path], out, tokenizer=corpus.path, overwrite=True)
    assert (out / "manifest.json").read_bytes() == before
    prepare([source], out, tokenizer=corpus.path, overwrite=True, max_block_tokens=60)
    assert Corpus.open(out).body_width == 60
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_folder_that_is_no_corpus_is_never_replaced(corpus, source, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"x")
    with pytest.raises(CorpusError, match="replaces a prepared corpus only"):
        prepare([source], tmp_path / "photos", tokenizer=corpus.path, overwrite=True)
    assert (tmp_path / "photos" / "a.jpg").exists()


def test_what_lies_beside_a_corpus_in_its_folder_is_never_removed(corpus, source, tmp_path):
    prepare([source], tmp_path / "c", tokenizer=corpus.path)
    (tmp_path / "c" / "mine.jsonl").write_bytes(source.read_bytes())
    with pytest.raises(CorpusError, match="corpus alone.*mine"):
        prepare([tmp_path / "c" / "mine.jsonl"], tmp_path / "c", tokenizer=corpus.path, overwrite=True)
    assert (tmp_path / "c" / "mine.jsonl").exists()


def test_a_link_leads_to_the_folder_that_is_written(corpus, source, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "c")
    for width in (40, 60):
        prepare([source], tmp_path / "link", tokenizer=corpus.path, overwrite=True, max_block_tokens=width)
        assert (tmp_path / "link").is_symlink() and Corpus.open(tmp_path / "c").body_width == width
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_place_that_cannot_be_written_to_is_refused(corpus, source, tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(CorpusError, match="beside the folder it will make.*file"):
        prepare([source], tmp_path / "file" / "c", tokenizer=corpus.path)


def test_what_a_broken_off_preparation_leaves_is_no_corpus(corpus, source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_RECORDS", 8)
    seen = []

    class StopHalfway(Silent):
        def update(self, done, note=""):
            if note and len(seen) >= 3:
                raise KeyboardInterrupt
            seen.extend(p for p in tmp_path.iterdir() if p.name.startswith("."))

    with pytest.raises(KeyboardInterrupt):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=1, progress=StopHalfway())
    assert seen and not any(path.exists() for path in seen) and not (tmp_path / "c").exists()


def test_settings_that_contradict_each_other(corpus, source, tmp_path):
    with pytest.raises(ConfigError, match="not both"):
        prepare([source], tmp_path / "c")
    with pytest.raises(ConfigError, match="not both"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, vocab_size=300)
    with pytest.raises(ConfigError, match="2 to 32768"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, max_block_tokens=1)
    with pytest.raises(ConfigError, match="rules, dates"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, tagger="bert")
    with pytest.raises(ConfigError, match="at least 1 worker"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=0)
    with pytest.raises(ConfigError, match="source"):
        prepare([], tmp_path / "c", tokenizer=corpus.path)


def test_a_trained_vocabulary_is_the_same_in_every_run(corpus, source, tmp_path):
    prepare([source], tmp_path / "c", vocab_size=300, max_block_tokens=40, title_tokens=8)
    assert Corpus.open(tmp_path / "c").content_hash == corpus.content_hash


def test_large_vocabularies_are_stored_wider(source, tmp_path):
    small = Tokenizer.load(
        Corpus.open(prepare([source], tmp_path / "a", vocab_size=300).path).path / "vocab.txt"
    )
    large = Tokenizer([*small.vocabulary, *(f"[unused{i}]" for i in range(1 << 16))])
    prepare([source], tmp_path / "b", tokenizer=large)
    narrow, wide = Corpus.open(tmp_path / "a"), Corpus.open(tmp_path / "b")
    assert narrow.arrays["bodies"].dtype == np.uint16 and wide.arrays["bodies"].dtype == np.int32
    assert np.array_equal(narrow.arrays["bodies"], wide.arrays["bodies"])


def test_memory_does_not_grow_with_the_input(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_RECORDS", 32)

    def peak(count):
        path = write_jsonl(tmp_path / f"{count}.jsonl", records(60) * (count // 60))
        tracemalloc.start()
        prepare([path], tmp_path / str(count), tokenizer=corpus.path, workers=1, progress=Silent())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(600), peak(4800)
    assert many < 1.3 * few


def test_a_worker_that_was_killed_is_an_error_that_says_so(corpus, source, tmp_path, monkeypatch):
    class Killed(ThreadPoolExecutor):
        def __init__(self, workers, **settings):
            super().__init__(workers)

        def submit(self, job, *arguments):
            future = Future()
            future.set_exception(BrokenProcessPool("terminated abruptly"))
            return future

    monkeypatch.setattr(module, "ProcessPoolExecutor", Killed)
    monkeypatch.setattr(module, "CHUNK_RECORDS", 8)
    with pytest.raises(CorpusError, match="was killed.*--workers"):
        prepare([source], tmp_path / "out" / "c", tokenizer=corpus.path, workers=2, progress=Silent())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(corpus, source, tmp_path, monkeypatch):
    """Closing a file writes what is still held back, and fails as writing did."""

    class Full(io.FileIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open

    def opened(self, mode="r", *rest, **settings):
        if self.suffix == ".bin" and mode == "wb":
            return io.BufferedWriter(Full(self, "wb"))
        return real(self, mode, *rest, **settings)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OSError, match="No space"):
        prepare([source], tmp_path / "c", tokenizer=corpus.path, workers=1)
    assert [path for path in tmp_path.iterdir() if path.name.startswith(".") or path.name == "c"] == []


def test_a_worker_leaves_ctrl_c_to_its_parent(corpus, monkeypatch):
    ignored = []
    monkeypatch.setattr("realm_jax.data.encode.signal.signal", lambda *what: ignored.append(what))
    monkeypatch.setattr("realm_jax.data.encode._worker", {})
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "true")  # is set back after the test
    start_worker(corpus.tokenizer, {})
    assert ignored == [(signal.SIGINT, signal.SIG_IGN)]


PARENT = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from realm_jax.data.encode import start_worker
from realm_jax.text.tokenizer import SPECIAL_TOKENS, Tokenizer

if __name__ == "__main__":
    setup = {"initializer": start_worker, "initargs": (Tokenizer(SPECIAL_TOKENS), {})}
    pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), **setup)
    print(pool.submit(os.getpid).result(), flush=True)
    time.sleep(600)
"""


def test_a_worker_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, text=True
    ) as parent:
        worker = Path(f"/proc/{parent.stdout.readline().strip()}/stat")
        assert worker.exists()
        parent.kill()
    for _ in range(100):
        if not worker.exists() or worker.read_text().split()[2] == "Z":
            return
        time.sleep(0.1)
    raise AssertionError("it goes on")


def test_workers_do_not_import_jax():
    code = "import sys, realm_jax.data.encode; print('jax' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
    )
