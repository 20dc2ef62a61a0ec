"""Dumps of a wiki: pages in order, what is passed over, what is broken, and files that are not whole."""

import bz2
import gzip
import json
import tracemalloc

import pytest

from realm_jax.data.corpus import Corpus
from realm_jax.data.dump import DUMP_NAME
from realm_jax.data.prepare import prepare
from realm_jax.data.records import BadRecord, Document, Fields, Skipped, parse_document
from realm_jax.data.sources import open_source
from realm_jax.errors import CorpusError
from tests.data.test_prepare import Silent
from tests.data.wiki_dump import (
    ARTICLES,
    BAD,
    HEAD,
    LIMA_TEXT,
    PAGES,
    SKIPPED,
    TAIL,
    damaged,
    dump_bytes,
    multistream,
    page,
    sentence,
)

pytest.importorskip("mwparserfromhell", reason="mwparserfromhell is not installed: requirements.txt")


def parsed(path):
    return [parse_document(raw, Fields()) for raw in open_source(path).records()]


def written(path, data):
    path.write_bytes(data)
    return path


@pytest.fixture
def dump(tmp_path):
    return written(tmp_path / "wiki.xml", dump_bytes())


def test_articles_have_their_title_id_and_prose(dump):
    found = [item for item in parsed(dump) if isinstance(item, Document)]
    assert len(found) == ARTICLES
    assert found[0] == Document("1", "Lima", LIMA_TEXT)
    assert found[1] == Document("4", "R & <b>", "The 4th river rises in 1504. It flows to the great sea.")


def test_what_is_no_article_and_what_is_broken(dump):
    items = parsed(dump)
    assert len(items) == len(PAGES)
    assert [item.reason for item in items if isinstance(item, Skipped)] == [
        "redirect",
        "other_namespace",
        "other_namespace",
        "other_model",
        "redirect",
    ]
    bad = [item for item in items if isinstance(item, BadRecord)]
    assert [(b.line, b.reason) for b in bad] == [
        (7, "empty_text"),
        (8, "broken_xml"),
        (9, "broken_wikitext"),
        (10, "invalid_utf8"),
    ]
    titles = ["Nur Tabelle", "Kaputt", "Zerbrochen", "Falsche Bytes"]
    assert all(b.detail.startswith(f"{title}: ") for b, title in zip(bad, titles, strict=True))
    assert "mismatched tag: line 11" in bad[1].detail


def test_a_page_that_lacks_a_part_is_named_by_its_title_or_as_one_without(tmp_path):
    whole = page("R & <b>", sentence(1), number=1)
    pages = [whole.replace("<title>R &amp; &lt;b&gt;</title>", ""), whole.replace("<ns>0</ns>", "")]
    untitled, unplaced = parsed(written(tmp_path / "w.xml", dump_bytes(pages)))
    for bad, name in ((untitled, "a page without a title"), (unplaced, "R & <b>")):
        assert bad.reason == "missing_field" and bad.detail.startswith(f"{name}: a page has title")


@pytest.mark.parametrize("size", [7, 100, 1 << 20])
@pytest.mark.parametrize("name", ["w.xml", "w.xml.bz2", "w.xml.gz", "multi.xml-p1p29.bz2"])
def test_every_packing_and_every_read_size_gives_the_same_pages(dump, tmp_path, monkeypatch, name, size):
    monkeypatch.setattr("realm_jax.data.dump.READ_BYTES", size)
    data = dump_bytes()
    packed = {
        "w.xml": data,
        "w.xml.bz2": bz2.compress(data),
        "w.xml.gz": gzip.compress(data),
        "multi.xml-p1p29.bz2": multistream(data),
    }
    source = open_source(written(tmp_path / name, packed[name]))
    found = list(source.records())
    want = [part.encode() for part in PAGES]
    want[9] = want[9].replace(b"\xc3\xa9The", b"\xe9The")
    assert [raw.data.xml.strip() for raw in found] == [part.strip() for part in want]
    assert [raw.line for raw in found] == list(range(1, len(PAGES) + 1))
    positions = [raw.position for raw in found]
    assert positions == sorted(positions) and positions[-1] <= source.total


def test_a_tag_that_is_missing_costs_one_page(tmp_path):
    pages = [page(f"P{i}", sentence(i), number=i) for i in range(6)]
    pages[1] = pages[1].replace("  </page>\n", "")
    pages[4] = pages[4].replace("  <page>\n", "")
    items = parsed(written(tmp_path / "w.xml", dump_bytes(pages)))
    assert [item.id if isinstance(item, Document) else item.reason for item in items] == [
        "0",
        "broken_xml",
        "2",
        "3",
        "broken_xml",
        "5",
    ]


def test_fields_that_a_page_must_have(tmp_path):
    old = page("Old", "text", number=1).replace("    <ns>0</ns>\n", "")
    nameless = page("X", "text", number=2).replace("    <title>X</title>\n", "")
    items = parsed(written(tmp_path / "w.xml", dump_bytes([old, nameless])))
    assert [item.reason for item in items] == ["missing_field"] * 2


def test_prepare_reads_a_dump(corpus, dump, tmp_path):
    report = prepare([dump], tmp_path / "c", tokenizer=corpus.path, workers=2)
    assert report.documents == ARTICLES and report.bad_counts == BAD and report.skipped_counts == SKIPPED
    opened = Corpus.open(tmp_path / "c")
    assert opened.manifest["skipped"] == SKIPPED and opened.manifest["bad_records"] == BAD
    assert opened.text(0).title == "Lima" and opened.text(0).document_id == "1"
    lines = (tmp_path / "c" / "bad_records.jsonl").read_text().splitlines()
    assert [json.loads(line)["line"] for line in lines] == [7, 8, 9, 10]
    packed = written(tmp_path / "w.xml.bz2", multistream(dump_bytes()))
    assert prepare([packed], tmp_path / "d", tokenizer=corpus.path).content_hash == report.content_hash


def test_strict_reading_passes_over_redirects_and_stops_at_a_broken_page(corpus, dump, tmp_path):
    with pytest.raises(CorpusError, match=r"wiki.xml:7: empty_text \(Nur Tabelle"):
        prepare([dump], tmp_path / "c", tokenizer=corpus.path, strict=True)
    sound = written(tmp_path / "sound.xml", dump_bytes(PAGES[:6]))
    assert prepare([sound], tmp_path / "c", tokenizer=corpus.path, strict=True).documents == 2


def test_a_vocabulary_is_trained_on_the_prose_of_a_dump(dump, tmp_path):
    prepare([dump], tmp_path / "c", vocab_size=300)
    words = Corpus.open(tmp_path / "c").tokenizer.vocabulary
    assert "river" in words and "infobox" not in words


@pytest.mark.parametrize("pack", [bz2.compress, multistream])
@pytest.mark.parametrize("cut", [0.3, 0.9])
def test_a_bz2_file_that_is_cut_off_is_refused_before_it_is_read(tmp_path, pack, cut):
    data = pack(dump_bytes())
    path = written(tmp_path / "w.xml.bz2", data[: int(len(data) * cut)])
    with pytest.raises(CorpusError, match="read to its end.*w.xml.bz2.*cut off"):
        open_source(path)


@pytest.mark.parametrize("pages", [0, 1, 30, 300])
def test_whole_bz2_files_of_any_length_are_not(tmp_path, pages):
    """The end of a stream stands at any of eight places in a byte."""
    articles = [page(f"P{i}", sentence(i), number=i) for i in range(pages)]
    path = written(tmp_path / "w.xml.bz2", bz2.compress(dump_bytes(articles or PAGES[:1])))
    assert len(list(open_source(path).records())) == max(pages, 1)


def test_damage_and_missing_ends_are_named_with_the_page(tmp_path):
    packed = damaged(bz2.compress(dump_bytes()))
    with pytest.raises(CorpusError, match="read to its end.*w.xml.bz2, behind page"):
        list(open_source(written(tmp_path / "w.xml.bz2", packed)).records())
    # A stream whose beginning is spoilt, or that is missing, leaves what looks like a shorter file.
    with pytest.raises(CorpusError, match="ends with </mediawiki>.*stops before"):
        list(open_source(written(tmp_path / "x.xml.bz2", damaged(multistream(dump_bytes())))).records())
    whole = multistream(dump_bytes())
    without_end = whole[: whole.rindex(b"BZh9")]
    with pytest.raises(CorpusError, match="ends with </mediawiki>.*stops before"):
        list(open_source(written(tmp_path / "v.xml.bz2", without_end)).records())
    text = dump_bytes()
    with pytest.raises(CorpusError, match="ends with </mediawiki>.*inside a page"):
        list(open_source(written(tmp_path / "u.xml", text[: len(text) // 2])).records())


@pytest.mark.parametrize("content", ["", "<feed><entry/></feed>", "<html><page></page></html>", "no xml"])
def test_other_files_are_no_dumps(tmp_path, content):
    with pytest.raises(CorpusError, match="dump (begins|ends) with"):
        list(open_source(written(tmp_path / "w.xml", content.encode())).records())


def test_a_file_without_pages_does_not_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("realm_jax.data.dump.READ_BYTES", 1 << 10)
    monkeypatch.setattr("realm_jax.data.dump.MOST_PAGE_BYTES", 1 << 14)
    with pytest.raises(CorpusError, match="has a <page>"):
        list(open_source(written(tmp_path / "w.xml", (HEAD + " " * (1 << 16) + TAIL).encode())).records())


def test_memory_does_not_grow_with_the_dump(tmp_path, monkeypatch):
    monkeypatch.setattr("realm_jax.data.dump.READ_BYTES", 1 << 12)
    peaks = []
    for count in (200, 1600):
        pages = [page(f"P{i}", sentence(i), number=i) for i in range(count)]
        source = open_source(written(tmp_path / f"{count}.xml.bz2", multistream(dump_bytes(pages))))
        del pages
        tracemalloc.start()
        assert sum(1 for _ in source.records()) == count
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("enwiki-20250901-pages-articles.xml.bz2", True),
        ("enwiki-20250901-pages-articles-multistream1.xml-p1p41242.bz2", True),
        ("dump.xml", True),
        ("dump.xml.gz", True),
        ("enwiki-20250901-pages-articles-multistream-index.txt.bz2", False),
        ("docs.jsonl.bz2", False),
    ],
)
def test_dumps_are_known_by_their_names(name, known):
    assert bool(DUMP_NAME.search(name)) == known


def test_progress_is_in_bytes_of_all_sources(corpus, dump, tmp_path):
    progress = Silent()
    lines = tmp_path / "a.jsonl"
    lines.write_text(json.dumps({"title": "x", "text": "A text. " * 200}) + "\n")
    prepare([lines, dump], tmp_path / "c", tokenizer=corpus.path, workers=1, progress=progress)
    assert progress.told[-1][0] == -(-(lines.stat().st_size + dump.stat().st_size) // 1000)
