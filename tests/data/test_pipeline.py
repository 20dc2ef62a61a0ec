"""The Beam pipeline gives the corpus that one machine gives."""

import bz2
import json

import pytest

from realm_jax.cli import main
from realm_jax.data.prepare import prepare
from realm_jax.errors import ConfigError, CorpusError
from tests.data.conftest import records, write_jsonl
from tests.data.test_prepare import Silent
from tests.data.wiki_dump import ARTICLES, BAD, SKIPPED, damaged, dump_bytes, multistream

pytest.importorskip("mwparserfromhell", reason="mwparserfromhell is not installed: requirements.txt")
pipeline = pytest.importorskip(
    "realm_jax.data.pipeline",
    reason="apache-beam is not installed: requirements-beam.txt",
    exc_type=ImportError,
)
beam_encoder = pipeline.beam_encoder

WIDTHS = {"max_block_tokens": 40, "title_tokens": 8}


@pytest.fixture
def sources(tmp_path, monkeypatch):
    """Two dumps and a JSONL file with a bad line, in chunks of a few records."""
    monkeypatch.setattr("realm_jax.data.prepare.CHUNK_RECORDS", 7)
    (tmp_path / "a.xml.bz2").write_bytes(multistream(dump_bytes()))
    write_jsonl(tmp_path / "b.jsonl", records(30))
    with (tmp_path / "b.jsonl").open("ab") as file:
        file.write(b"{broken\n")
    return [tmp_path / "a.xml.bz2", tmp_path / "b.jsonl"]


def test_the_pipeline_gives_the_corpus_of_one_machine(corpus, sources, tmp_path):
    here = prepare(sources, tmp_path / "here", tokenizer=corpus.path, workers=1, progress=Silent(), **WIDTHS)
    progress = Silent()
    far = prepare(
        sources,
        tmp_path / "far",
        tokenizer=corpus.path,
        encoder=beam_encoder([]),
        progress=progress,
        **WIDTHS,
    )
    assert far == here._replace(path=far.path)
    names = sorted(path.name for path in here.path.iterdir())
    assert names == sorted(path.name for path in far.path.iterdir()) and "bad_records.jsonl" in names
    for name in names:
        assert (here.path / name).read_bytes() == (far.path / name).read_bytes(), name
    assert far.documents == ARTICLES + 30 and far.skipped_counts == SKIPPED
    assert far.bad_counts == BAD | {"broken_json": 1}
    assert [done for done, _ in progress.told] == sorted(done for done, _ in progress.told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.xml.bz2", "b.jsonl", "far", "here"]


def test_what_is_wrong_with_a_source_is_said_as_on_one_machine(corpus, tmp_path):
    (tmp_path / "w.xml.bz2").write_bytes(damaged(bz2.compress(dump_bytes())))
    (tmp_path / "good.xml.bz2").write_bytes(bz2.compress(dump_bytes()))
    sources = [tmp_path / "good.xml.bz2", tmp_path / "w.xml.bz2"]
    with pytest.raises(CorpusError, match="read to its end.*w.xml.bz2, behind page"):
        prepare(sources, tmp_path / "c", tokenizer=corpus.path, encoder=beam_encoder([]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["good.xml.bz2", "w.xml.bz2"]


def test_a_runner_that_beam_does_not_have_is_named(corpus, sources, tmp_path):
    with pytest.raises(ConfigError, match="NoSuchRunner"):
        prepare(
            sources, tmp_path / "c", tokenizer=corpus.path, encoder=beam_encoder(["--runner=NoSuchRunner"])
        )


def test_the_command_runs_a_pipeline_and_its_folder_is_left_empty(corpus, tmp_path, capsys):
    source = write_jsonl(tmp_path / "b.jsonl", records(9))
    words = ["prepare", str(source), "--tokenizer", str(corpus.path), "--max-block-tokens", "40"]
    beam = ["--beam", "", "--beam-folder", str(tmp_path / "shared")]
    assert main([*words, "--out", str(tmp_path / "far"), *beam]) == 0
    assert list((tmp_path / "shared").iterdir()) == []
    assert main([*words, "--out", str(tmp_path / "here")]) == 0
    far, here = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("far", "here"))
    assert far == here
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "no"), *beam, "--workers", "2"]) == 2
    assert "its own" in capsys.readouterr().err


def test_chunks_that_are_missing_are_noticed(tmp_path):
    (tmp_path / "count").write_text("2")
    with pytest.raises(CorpusError, match="0 of 2.*"):
        list(pipeline._in_order(tmp_path))
