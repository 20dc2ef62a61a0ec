"""The prose of an article, out of MediaWiki's markup: paragraphs and list items, links as they are read.

Parsed by mwparserfromhell. Left out are tables, infoboxes and other templates (but for those of
`wiki_templates`), references, files, categories, formulas, headings, and the sections behind an article that
list its sources.
"""

import html
import importlib
import re
from collections.abc import Callable, Collection
from typing import Any

from realm_jax.errors import MissingExtra
from realm_jax.text.wiki_templates import template_text

# Namespaces whose links show no text, by the names every wiki knows; a dump says its own names for them.
HIDDEN = frozenset({"file", "image", "category", "media"})
# English Wikipedia's headings of what is no prose of the article's own.
END_SECTIONS = frozenset(
    {
        "see also",
        "references",
        "notes",
        "notes and references",
        "references and notes",
        "footnotes",
        "citations",
        "sources",
        "works cited",
        "further reading",
        "external links",
    }
)
# Openings without their closing, each of which costs the parser another pass over the rest of the page.
MOST_UNCLOSED = 200


class WikitextError(ValueError):
    """A page whose markup cannot be parsed."""


def load_parser() -> Any:
    """Import mwparserfromhell.

    Raises:
      MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module("mwparserfromhell")
    except ImportError as error:
        raise MissingExtra(
            "Reading a MediaWiki dump needs the package mwparserfromhell",
            got=str(error),
            remedy="pip install mwparserfromhell.",
        ) from error


def plain_text(wikitext: str, *, hidden: Collection[str] = HIDDEN) -> str:
    """Turn a page's markup into paragraphs with a blank line between them.

    Args:
      wikitext: of one page.
      hidden: names of the namespaces whose links are not read (files, categories), in lower case.

    Raises:
      WikitextError: the markup is so broken that the parser gives up, or would take hours.
      MissingExtra: mwparserfromhell is not installed.
    """
    parser = load_parser()
    for opening, closings in _PAIRS.items():
        unclosed = wikitext.count(opening) - sum(map(wikitext.count, closings))
        if unclosed > MOST_UNCLOSED:
            raise WikitextError(f"{unclosed} times {opening} without {closings[0]}")
    attributes = wikitext.count('="')  # each takes one quotation mark to open and one to close
    if 2 * attributes - wikitext.count('"') > MOST_UNCLOSED:
        raise WikitextError(f"{attributes} attributes in quotation marks that are not closed")
    try:
        # Quotes that make bold and italic are taken out below, line by line as MediaWiki does it.
        code = parser.parse(wikitext, skip_style_tags=True)
        found = _Reader(parser.nodes, frozenset(hidden) | HIDDEN).page(code)
    except (parser.parser.ParserError, RecursionError) as error:
        raise WikitextError(str(error) or type(error).__name__) from error
    return _paragraphs(found)


class _Reader:
    """Goes through the nodes of parsed markup and returns what is read of each."""

    def __init__(self, nodes: Any, hidden: frozenset[str]):
        self._hidden = hidden
        self._read: dict[type, Callable[[Any], str]] = {
            nodes.Text: str,
            nodes.HTMLEntity: lambda node: html.unescape(str(node)),
            nodes.Wikilink: self._link,
            nodes.ExternalLink: lambda node: self.text(node.title) if node.brackets and node.title else "",
            nodes.Tag: self._tag,
            nodes.Template: self._template,
        }
        self._heading = nodes.Heading

    def page(self, code: Any) -> str:
        """Read a whole page, without its headings and the sections at its end."""
        parts: list[str] = []
        left_out = 0  # level of the heading whose section is being left out
        for node in code.nodes:
            if isinstance(node, self._heading):
                if not left_out or node.level <= left_out:
                    ends = self.text(node.title).strip(" ':").casefold() in END_SECTIONS
                    left_out = node.level if ends else 0
                parts.append("\n\n")
            elif not left_out:
                self._add(parts, node)
        return "".join(parts)

    def text(self, code: Any) -> str:
        """Read a part of a page."""
        parts: list[str] = []
        for node in code.nodes:
            self._add(parts, node)
        return "".join(parts)

    def _add(self, parts: list[str], node: Any) -> None:
        marker = getattr(node, "wiki_markup", None)
        if marker and marker[0] in "*#:;":
            # A list's item; or the explanation behind a term, on the line of that.
            parts.append("\n\n" if not parts or parts[-1].endswith("\n") else ": ")
            return
        read = self._read.get(type(node))
        if read:  # comments, headings and what only a template's own page has are not read
            parts.append(read(node))

    def _link(self, node: Any) -> str:
        name = str(node.title).strip()
        prefix, colon, _ = name.partition(":")
        prefix = prefix.replace("_", " ").strip().casefold()
        if prefix and colon:
            if prefix in self._hidden or _MEDIA.search(name):
                return ""
            if node.text is None and _LANGUAGE.match(name):
                return ""
        return self.text(node.title).strip().removeprefix(":") if node.text is None else self.text(node.text)

    def _tag(self, node: Any) -> str:
        name = str(node.tag).strip().casefold()
        if _UNREAD.fullmatch(name):
            return ""
        if name == "br":
            return " "
        inner = self.text(node.contents) if node.contents is not None else ""
        return f"\n\n{inner}\n\n" if _PARAGRAPHS.fullmatch(name) else inner

    def _template(self, node: Any) -> str:
        values, named = [], {}
        for parameter in node.params:
            value = self.text(parameter.value).strip()
            if parameter.showkey:
                named[str(parameter.name).strip()] = value
            else:
                values.append(value)
        return template_text(str(node.name).strip(), values, named)


def _paragraphs(text: str) -> str:
    """Join the lines of each paragraph, and take out what the markup leaves behind."""
    found = []
    for paragraph in re.split(r"\n[ \t]*\n", text):
        line = " ".join(" ".join(map(_without_quotes, paragraph.split("\n"))).split())
        for pattern, instead in _REMAINS:
            line = pattern.sub(instead, line)
        if line:
            found.append(line)
    return "\n\n".join(found)


def _without_quotes(line: str) -> str:
    """Take out the quotes that make bold and italic.

    Where neither comes out even, one of three quotes is an apostrophe: L'''Express''. It is one behind a
    word of a single letter if there is any. Source: MediaWiki, doQuotes.
    """
    marks = list(_QUOTES.finditer(line))
    if not marks:
        return line
    sizes = [min(len(mark.group()), 5) if len(mark.group()) != 4 else 3 for mark in marks]
    apostrophe = None
    if sum(size in (3, 5) for size in sizes) % 2 and sum(size in (2, 5) for size in sizes) % 2:
        threes = [mark.start() for mark, size in zip(marks, sizes, strict=True) if size == 3]
        behind_letter = [at for at in threes if re.search(r"(?:^|\s)\S$", line[:at])]
        behind_word = [at for at in threes if at and not line[at - 1].isspace()]
        apostrophe = next(iter([*behind_letter, *behind_word, *threes]), None)
    parts, end = [], 0
    for mark, size in zip(marks, sizes, strict=True):
        own = len(mark.group()) - size + (mark.start() == apostrophe)
        parts.append(line[end : mark.start()] + "'" * own)
        end = mark.end()
    return "".join(parts) + line[end:]


_PAIRS = {"{{": ("}}",), "[[": ("]]",), "{|": ("|}",), "<ref": ("</ref", "/>")}
_UNREAD = re.compile(
    "ref|references|table|gallery|math|chem|ce|score|timeline|imagemap|hiero|graph|mapframe|maplink|pre"
    "|source|syntaxhighlight|templatestyles|templatedata|indicator|categorytree|inputbox|section|style|script"
    "|includeonly|img"
)
_PARAGRAPHS = re.compile("p|div|center|blockquote|poem|ul|ol|li|dl|dt|dd|h[1-6]|hr")
_MEDIA = re.compile(
    r"\.(?:jpe?g|png|svg|gif|webp|tiff?|xcf|djvu|pdf|og[agv]|opus|mp[34]|wav|flac|mid|webm|stl)\s*$", re.I
)
_LANGUAGE = re.compile(r"(?:[a-z]{2,3}(?:-[a-z]+)*|simple):\S")  # [[de:Lima]]: the same in another wiki
_QUOTES = re.compile(r"'{2,}")
_REMAINS = (
    (re.compile(r"__[A-Z]+__"), ""),
    (re.compile(r"\(\s*(?:[,;]\s*)+"), "("),  # what stood before them in the brackets is gone
    (re.compile(r"(?:\s*[,;])+\s*\)"), ")"),
    (re.compile(r"\s*\(\s*\)"), ""),
    (re.compile(r"\s+([,.])(?=\s|$)"), r"\1"),
    (re.compile(r"  +"), " "),
    (re.compile(r"^(?:[\s:;,]|\.(?=\s))+|\s+$"), ""),
)
