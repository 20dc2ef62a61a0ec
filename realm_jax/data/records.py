"""Records of an input, one by one, and what may be wrong with them. No jax: worker processes import this."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from realm_jax.errors import CorpusError

SHOWN_BAD_RECORDS = 20  # named on the screen; the others are counted


class RawRecord(NamedTuple):
    """A record as it was read: a line of JSON, fields, or what makes fields when it is asked."""

    file: str
    line: int  # from 1; the number of the example or page where a source has no lines
    data: "bytes | Mapping[str, Any] | Unparsed"
    position: float  # how much of all sources has been read when this record is done, in their own units


class Document(NamedTuple):
    """A whole article."""

    id: str
    title: str
    text: str


class BadRecord(NamedTuple):
    """A record that is left out, and why."""

    file: str
    line: int
    reason: str  # such as "broken_json"; what they are counted by
    detail: str

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}: {self.reason} ({self.detail})"
        return text.encode("utf-8", "backslashreplace").decode()  # a file may have a name that is no text

    def error(self) -> CorpusError:
        """Return the exception that strict reading raises."""
        return CorpusError(
            "In strict reading every record is sound",
            got=str(self),
            remedy="Mend the record, or read without strict to leave such records out.",
        )


class Skipped(NamedTuple):
    """A record that is sound and no document, such as a redirect; counted and not named one by one."""

    reason: str


class Unparsed(Protocol):
    """A record that costs much to parse: that is done where it is encoded, by all processes."""

    def __len__(self) -> int:
        """Return its size, bytes."""
        ...

    def fields(self, file: str, line: int) -> Mapping[str, Any] | BadRecord | Skipped:
        """Return its fields, or why there are none."""
        ...


class Fields(NamedTuple):
    """The names under which a source keeps what is needed."""

    title: str | None = "title"  # None: there are no titles
    text: str = "text"
    id: str = "id"  # optional in a record


def parse_fields(raw: RawRecord) -> Mapping[str, Any] | BadRecord | Skipped:
    """Decode a record into its fields; fields that are already there pass."""
    if isinstance(raw.data, Mapping):
        return raw.data
    if not isinstance(raw.data, bytes):
        return raw.data.fields(raw.file, raw.line)
    try:
        value = json.loads(raw.data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRecord(raw.file, raw.line, "invalid_utf8", f"byte {error.start}")
    except (ValueError, RecursionError) as error:
        return BadRecord(raw.file, raw.line, "broken_json", str(error).split("\n")[0])
    if not isinstance(value, dict):
        return BadRecord(raw.file, raw.line, "not_an_object", f"a JSON {type(value).__name__}")
    return value


def text_field(raw: RawRecord, value: Mapping[str, Any], name: str) -> str | BadRecord:
    """Return a field that must be text; bytes are decoded as UTF-8."""
    if name not in value:
        return BadRecord(raw.file, raw.line, "missing_field", f"no {name!r} among {sorted(value)[:8]}")
    content = value[name]
    try:
        if isinstance(content, bytes):
            return content.decode("utf-8-sig")  # some editors put a mark before the text
        if isinstance(content, str):
            content.encode("utf-8")  # JSON can spell half a surrogate pair, which is no text
            return content
    except UnicodeError as error:
        return BadRecord(raw.file, raw.line, "invalid_utf8", f"{name}: {error.reason}")  # type: ignore[attr-defined]
    return BadRecord(raw.file, raw.line, "wrong_type", f"{name} is {type(content).__name__}, not text")


def parse_document(raw: RawRecord, fields: Fields) -> Document | BadRecord | Skipped:
    """Turn a record into a document, or say what is wrong with it, or why it is none."""
    value = parse_fields(raw)
    if isinstance(value, BadRecord | Skipped):
        return value
    title = "" if fields.title is None else text_field(raw, value, fields.title)
    if isinstance(title, BadRecord):
        return title
    text = text_field(raw, value, fields.text)
    if isinstance(text, BadRecord):
        return text
    if not text.strip():
        return BadRecord(raw.file, raw.line, "empty_text", f"{fields.text} is blank")
    number = value.get(fields.id)
    if number is None:
        number = f"{raw.file}:{raw.line}".encode("utf-8", "backslashreplace").decode()  # any file name
    elif isinstance(number, bool) or not isinstance(number, str | bytes | int):
        return BadRecord(raw.file, raw.line, "wrong_type", f"{fields.id} is {type(number).__name__}")
    elif not isinstance(number, int):
        number = text_field(raw, value, fields.id)
        if isinstance(number, BadRecord):
            return number
    return Document(str(number), title, text)
