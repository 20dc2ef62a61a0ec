"""The Beam pipeline gives the corpus that one machine gives."""

import pytest

from realm_jax.data.prepare import prepare
from tests.data.conftest import records, write_jsonl
from tests.data.test_prepare import Silent
from tests.data.wiki_dump import ARTICLES, BAD, SKIPPED, dump_bytes, multistream

pytest.importorskip("apache_beam", reason="apache-beam is not installed: requirements-beam.txt")
pytest.importorskip("mwparserfromhell", reason="mwparserfromhell is not installed: requirements.txt")

from realm_jax.data.pipeline import beam_encoder  # noqa: E402

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
