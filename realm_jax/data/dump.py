"""A MediaWiki XML dump, a page at a time.

The file is cut at its <page> and </page> tags, which stand nowhere else: text in XML has no bare "<". What is
between them is parsed by itself, where it is encoded and not where it is read, so that a broken page costs
that page only, and all processes parse.
"""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from realm_jax.data.compressed import check_whole, open_compressed, reading
from realm_jax.data.records import BadRecord, RawRecord, Skipped
from realm_jax.errors import CorpusError
from realm_jax.text.wikitext import HIDDEN, WikitextError, load_parser, plain_text

# Also of one part of a dump in several: enwiki-20250901-pages-articles1.xml-p1p41242.bz2
DUMP_NAME = re.compile(r"\.xml(?:-p\d+p\d+)?(?:\.bz2|\.gz)?$")
READ_BYTES = 1 << 20
MOST_PAGE_BYTES = 1 << 26
FILE, CATEGORY = "6", "14"  # keys of namespaces in every wiki


@dataclass(frozen=True, slots=True)
class PageXml:
    """One page as it stands in the dump."""

    xml: bytes  # <page> ... </page>
    hidden: frozenset[str]  # namespaces whose links show no text, in lower case

    def __len__(self) -> int:
        return len(self.xml)

    def fields(self, file: str, line: int) -> Mapping[str, Any] | BadRecord | Skipped:
        """Return the page's title, text and id, or why there are none."""
        named = _TITLE.search(self.xml)
        title = named[1].decode("utf-8", "replace") if named else "a page without a title"
        try:
            page = ElementTree.fromstring(self.xml.decode("utf-8"))
        except UnicodeDecodeError as error:
            return BadRecord(file, line, "invalid_utf8", f"{title}: byte {error.start} of the page")
        except ElementTree.ParseError as error:
            return BadRecord(file, line, "broken_xml", f"{title}: {error} of the page")
        given, namespace = page.findtext("title"), page.findtext("ns")
        title, revisions = title if given is None else given, page.findall("revision")
        if given is None or namespace is None or not revisions:
            return BadRecord(file, line, "missing_field", f"{title}: a page has title, ns and revision")
        if namespace.strip() != "0":
            return Skipped("other_namespace")
        text = revisions[-1].findtext("text") or ""
        if page.find("redirect") is not None or _REDIRECT.match(text):
            return Skipped("redirect")
        if (revisions[-1].findtext("model") or "wikitext") != "wikitext":
            return Skipped("other_model")
        try:
            prose = plain_text(text, hidden=self.hidden)
        except WikitextError as error:
            return BadRecord(file, line, "broken_wikitext", f"{title}: {error}")
        if not prose:
            return BadRecord(file, line, "empty_text", f"{title}: no prose among {len(text)} characters")
        number = page.findtext("id")
        return {"title": title, "text": prose} | ({} if number is None else {"id": number})


class Dump:
    """A file of pages as MediaWiki exports them, plain, .bz2 (of one stream or many) or .gz."""

    def __init__(self, path: Path):
        load_parser()
        check_whole(path)
        self.name, self._path = str(path), path
        self.total = float(path.stat().st_size)

    def records(self) -> Iterator[RawRecord]:
        number = 0
        with self._path.open("rb") as file, reading(lambda: f"{self.name}, behind page {number}"):
            stream = open_compressed(file, self._path.suffix)
            for number, page in enumerate(_pages(stream, self.name), start=1):
                yield RawRecord(self.name, number, page, float(file.tell()))


def _pages(stream: BinaryIO, name: str) -> Iterator[PageXml]:
    """Cut a dump into pages; a page that is not closed ends where the next begins.

    Raises:
      CorpusError: this is no dump, or it stops before its end.
    """
    held = b""  # read and not yet handed on
    hidden: frozenset[str] | None = None
    inside, searched = False, 0
    while data := stream.read(READ_BYTES):
        held += data
        begin = 0
        for tag in _TAG.finditer(held, searched):
            searched, opens = tag.end(), tag[0] == b"<page>"
            if hidden is None:
                hidden, begin = _hidden_namespaces(held[: tag.start()], name), tag.start()
            end = tag.start() if opens else tag.end()
            if inside or not opens:  # one that was not closed, or not opened, is a page too, a broken one
                yield PageXml(held[begin:end], hidden)
            begin, inside = end, opens
        held = held[begin:]
        searched = max(searched - begin, len(held) - len("</page"))
        if len(held) > MOST_PAGE_BYTES:
            raise CorpusError(
                f"A dump has a <page> or </page> at least every {MOST_PAGE_BYTES >> 20} MiB",
                got=f"{name}, where that is not so",
                remedy="Give a file of MediaWiki's, such as pages-articles.xml.bz2.",
            )
    if hidden is None:
        _hidden_namespaces(held, name)
    if inside or b"</mediawiki>" not in held:
        raise CorpusError(
            "A dump ends with </mediawiki>",
            got=f"{name}, which stops {'inside a page' if inside else 'before'}",
            remedy="Fetch the file again: it is not whole.",
        )


def _hidden_namespaces(head: bytes, name: str) -> frozenset[str]:
    """Read what this wiki calls the namespaces of files and categories."""
    try:
        root = ElementTree.fromstring(head.partition(b"</mediawiki>")[0] + b"</mediawiki>")
    except ElementTree.ParseError as error:
        raise CorpusError(
            "A dump begins with <mediawiki>, and says what its namespaces are called",
            got=f"{name} ({error})",
            remedy="Give a file of MediaWiki's, such as pages-articles.xml.bz2.",
        ) from error
    names = {
        (space.text or "").replace("_", " ").casefold()
        for space in root.iterfind(".//{*}namespace")
        if space.get("key") in (FILE, CATEGORY)
    }
    return HIDDEN | (names - {""})


_TAG = re.compile(rb"</?page>")
_TITLE = re.compile(rb"<title>([^<]*)</title>")
_REDIRECT = re.compile(r"\s*#redirect\b", re.IGNORECASE)
