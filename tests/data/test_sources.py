"""Sources: files, folders, TFDS."""

import gzip
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.data.records import Document, Fields, parse_document
from realm_jax.data.sources import open_source
from realm_jax.errors import ConfigError, CorpusError


def test_lines_are_counted_with_the_blank_ones_and_positions_grow(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"a": 1}\n\n  \n{"b": 2}')
    source = open_source(path)
    found = list(source.records())
    assert [(r.line, json.loads(r.data)) for r in found] == [(1, {"a": 1}), (4, {"b": 2})]
    assert found[-1].position == source.total == path.stat().st_size
    assert list(source.records()) == found  # again from the start


def test_gzip_gives_the_same_lines(tmp_path):
    lines = b"".join(b'{"n": %d}\n' % i for i in range(1000))
    (tmp_path / "a.jsonl").write_bytes(lines)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines))
    plain, packed = (list(open_source(tmp_path / name).records()) for name in ("a.jsonl", "a.jsonl.gz"))
    assert [(r.line, r.data) for r in plain] == [(r.line, r.data) for r in packed]


@pytest.mark.parametrize("cut", [15, 400])
def test_a_cut_off_gzip_file_is_an_error_with_its_place(tmp_path, cut):
    lines = b"".join(b'{"n": %d}\n' % (i * 7919) for i in range(1000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:cut])
    with pytest.raises(CorpusError, match="read to its end.*a.jsonl.gz"):
        list(open_source(tmp_path / "a.jsonl.gz").records())


def test_a_damaged_gzip_file_is_an_error_with_its_place(tmp_path):
    lines = b"".join(b'{"n": %d}\n' % (i * 7919) for i in range(1000))
    packed = bytearray(gzip.compress(lines))
    packed[200:260] = b"\xff" * 60
    (tmp_path / "a.jsonl.gz").write_bytes(packed)
    with pytest.raises(CorpusError, match="read to its end.*a.jsonl.gz"):
        list(open_source(tmp_path / "a.jsonl.gz").records())


def test_a_folder_of_text(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.txt").write_bytes("\u00e9t\u00e9".encode())
    (tmp_path / "sub" / "a.txt").write_bytes(b"\xff")
    (tmp_path / "ignored.md").write_bytes(b"no")
    (tmp_path / "folder.txt").mkdir()
    source = open_source(tmp_path)
    good, bad = (parse_document(raw, Fields()) for raw in source.records())
    assert good == Document("b.txt", "b", "\u00e9t\u00e9")
    assert bad.reason == "invalid_utf8" and bad.file.endswith("a.txt")


def test_one_text_file(tmp_path):
    (tmp_path / "Lima.txt").write_bytes(b"A city.")
    (tmp_path / "other.txt").write_bytes(b"Not asked for.")
    source = open_source(tmp_path / "Lima.txt")
    assert [parse_document(raw, Fields()) for raw in source.records()] == [
        Document("Lima.txt", "Lima", "A city.")
    ]
    assert source.total == 7


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfLima.")
    (raw,) = open_source(tmp_path).records()
    assert parse_document(raw, Fields()).text == "Lima."


def test_a_text_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"Lima.")
    source = open_source(tmp_path)
    (tmp_path / "a.txt").unlink()
    with pytest.raises(CorpusError, match="a.txt .No such file"):
        list(source.records())


def test_what_is_no_source(tmp_path):
    with pytest.raises(CorpusError, match="JSONL file, a folder"):
        open_source(tmp_path / "absent.jsonl")
    with pytest.raises(CorpusError, match=".txt"):
        open_source(tmp_path)
    for name in ("", "gs://bucket/a.jsonl"):
        with pytest.raises(CorpusError, match="of this machine"):
            open_source(name)
    with pytest.raises(ConfigError, match="split"):
        open_source("tfds:wiki40b/en")


def test_what_cannot_be_read_in_a_folder_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"gone\.txt"):
        list(open_source(tmp_path).records())
    (tmp_path / "gone.txt").unlink()

    def closed(folder, *, onerror):
        yield str(folder), [], ["a.txt"]
        onerror(PermissionError(13, "Permission denied", str(folder / "closed")))

    monkeypatch.setattr("realm_jax.data.sources.os.walk", closed)
    with pytest.raises(CorpusError, match="subfolder.*closed"):
        open_source(tmp_path)


WRITE_TFDS = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class TinyDocuments(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    def _info(self):
        text = tfds.features.Text()
        features = tfds.features.FeaturesDict({"title": text, "text": text, "id": np.int64})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, download):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(4):
            yield i, {"title": f"T{i}", "text": f"Caf\u00e9 {i}.", "id": i}

class Wikipedia(tfds.core.GeneratorBasedBuilder):
    # The features of TFDS's own dataset of this name.
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="20250901.xx", version=tfds.core.Version("1.0.0"))]
    def _info(self):
        features = tfds.features.FeaturesDict({"title": tfds.features.Text(), "text": tfds.features.Text()})
        return tfds.core.DatasetInfo(builder=self, features=features)
    def _split_generators(self, download):
        return {"train": self._generate_examples()}
    def _generate_examples(self):
        for i in range(3):
            text = f"T{i} is a town.\\n\\nHistory\\nIt was founded in {1900 + i}."
            yield i, {"title": f"T{i}", "text": text}

for builder in (TinyDocuments, Wikipedia):
    builder(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A dataset of four examples in ArrayRecord files, as TFDS writes them.

    Written by a script of its own: TFDS looks for the files round the module that a builder is in.
    """
    pytest.importorskip("tensorflow_datasets", reason="the package tensorflow-datasets is not installed")
    folder = tmp_path_factory.mktemp("tfds")
    subprocess.run([sys.executable, "-c", WRITE_TFDS, str(folder)], check=True, capture_output=True)
    return folder


def test_tfds_by_name(tfds_folder):
    source = open_source("tfds:tiny_documents:train", tfds_dir=tfds_folder)
    documents = {parse_document(raw, Fields()) for raw in source.records()}
    assert documents == {Document(str(i), f"T{i}", f"Caf\u00e9 {i}.") for i in range(4)}
    positions = [raw.position for raw in source.records()]
    assert positions == [source.total * (i + 1) / 4 for i in range(4)]
    stored = sum(file.stat().st_size for file in tfds_folder.rglob("*.array_record*"))
    assert 0 < source.total <= stored  # bytes of the examples, without what the file format adds
    half = open_source("tfds:tiny_documents:train[:2]", tfds_dir=tfds_folder)
    assert list(half.records())[-1].position == half.total == source.total / 2


@pytest.mark.parametrize("name", ["tfds:no_such_dataset:train", "tfds:tiny_documents:validation"])
def test_tfds_names_that_are_not_there(tfds_folder, name):
    with pytest.raises(CorpusError, match=name):
        open_source(name, tfds_dir=tfds_folder)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NotImplementedError(), "NotImplementedError"),
        (ValueError("\nno\nyes"), "no"),
        (OSError(2, "gone"), "gone"),
    ],
)
def test_why_tfds_cannot_read_is_said_in_a_line(monkeypatch, error, said):
    def data_source(*_, **__):
        raise error

    monkeypatch.setitem(sys.modules, "tensorflow_datasets", SimpleNamespace(data_source=data_source))
    with pytest.raises(CorpusError, match=rf"tfds:dataset:train \(.*{said}\)"):
        open_source("tfds:dataset:train")


def test_the_wikipedia_of_tfds_becomes_a_corpus(tfds_folder, corpus, tmp_path):
    name = "tfds:wikipedia/20250901.xx:train"
    report = prepare([name], tmp_path / "c", tokenizer=corpus.path, tfds_dir=tfds_folder, workers=1)
    assert report.documents == 3 and not report.bad_counts
    opened = Corpus.open(tmp_path / "c")
    texts = [opened.text(i) for i in range(len(opened))]
    assert {text.title for text in texts} == {"T0", "T1", "T2"}
    assert {text.document_id for text in texts} == {f"{name}:{i}" for i in (1, 2, 3)}
    assert all(f"{text.title} is a town." in text.body for text in texts)


def test_packings_of_json_lines_that_are_not_known_are_refused(tmp_path):
    (tmp_path / "a.jsonl.bz2").write_bytes(b"BZh9")
    with pytest.raises(CorpusError, match="plain or .gz.*a.jsonl.bz2"):
        open_source(tmp_path / "a.jsonl.bz2")
