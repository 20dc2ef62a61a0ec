"""Records: each way to be bad has its reason, and names its file and line."""

import pytest

from realm_jax.data.records import BadRecord, Document, Fields, RawRecord, parse_document
from realm_jax.errors import CorpusError


def parse(data, fields=None):
    return parse_document(RawRecord("f.jsonl", 7, data, 0.0), fields or Fields())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"title": "a", "text": ', "broken_json"),
        (b"[" * 100_000, "broken_json"),
        (b'["title", "text"]', "not_an_object"),
        (b'{"title": "a", "text": "\xff"}', "invalid_utf8"),
        (rb'{"title": "a", "text": "\ud800"}', "invalid_utf8"),
        (b'{"text": "b"}', "missing_field"),
        (b'{"title": "a"}', "missing_field"),
        (b'{"title": "a", "text": 3}', "wrong_type"),
        (b'{"title": null, "text": "b"}', "wrong_type"),
        (b'{"title": "a", "text": "b", "id": [1]}', "wrong_type"),
        (b'{"title": "a", "text": "b", "id": true}', "wrong_type"),
        (b'{"title": "a", "text": " \\n "}', "empty_text"),
        ({"title": b"a", "text": b"\xff"}, "invalid_utf8"),
    ],
)
def test_bad_records(data, reason):
    bad = parse(data)
    assert isinstance(bad, BadRecord) and bad.reason == reason
    assert str(bad).startswith(f"f.jsonl:7: {reason}")
    with pytest.raises(CorpusError, match="f.jsonl:7"):
        raise bad.error()


@pytest.mark.parametrize(
    ("data", "document"),
    [
        (b'{"title": "a", "text": "b"}', Document("f.jsonl:7", "a", "b")),
        (b'\xef\xbb\xbf{"title": "", "text": " b ", "id": 5}', Document("5", "", " b ")),
        (b'{"title": "a", "text": "b", "id": "x"}', Document("x", "a", "b")),
        ({"title": b"\xc3\xa9", "text": b"b", "id": 3}, Document("3", "\u00e9", "b")),
    ],
)
def test_sound_records(data, document):
    assert parse(data) == document


def test_fields_have_other_names_or_no_title():
    data = b'{"name": "a", "body": "b", "key": 1}'
    assert parse(data, Fields(title="name", text="body", id="key")) == Document("1", "a", "b")
    assert parse(data, Fields(title=None, text="body")) == Document("f.jsonl:7", "", "b")
