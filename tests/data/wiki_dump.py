"""A small dump in the format of MediaWiki's exports: site, namespaces, and every kind of page."""

import bz2
from xml.sax.saxutils import escape

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" \
xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" \
xsi:schemaLocation="http://www.mediawiki.org/xml/export-0.11/ \
http://www.mediawiki.org/xml/export-0.11.xsd" version="0.11" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>dewiki</dbname>
    <base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
    <generator>MediaWiki 1.45.0</generator>
    <case>first-letter</case>
    <namespaces>
      <namespace key="-2" case="first-letter">Medium</namespace>
      <namespace key="0" case="first-letter" />
      <namespace key="1" case="first-letter">Diskussion</namespace>
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="10" case="first-letter">Vorlage</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
TAIL = "</mediawiki>\n"

LIMA = """{{Infobox Ort|name=Lima|Einwohner={{formatnum:10000000}}|Bild=[[Datei:Lima.jpg]]}}
[[Datei:Plaza.jpg|thumb|left|The [[Plaza]] in 1900]]
'''Lima''' ({{IPA|\u02c8lima}}; {{lang|qu|Limaq}}) is the [[capital city|capital]] of \
[[Peru]].<ref name="a">{{cite web|url=http://x.example|title=Z}}</ref> It was founded {{circa|1535}} \
by L'''\u00c9tat''; the valley is {{convert|5|to|7|km|mi}}&nbsp;long &amp; dry.
<!-- not shown -->
== History ==
In 1746 an earthquake came.<ref name="a" /> See [http://a.example the report].
{| class="wikitable"
! Year !! People
|-
| 1600 || [[x|14000]]
|}
=== Trade ===
* [[Silver]] went to Spain
* ''Gold'' too
<math>x^2</math><gallery>
Datei:A.jpg|A view
</gallery>
__NOTOC__
== See also ==
* [[Callao]]
=== Deeper ===
Not read either.
== Climate ==
It seldom rains.
== References ==
<references />
[[Kategorie:City]] [[:Kategorie:City|All cities]] [[en:Lima]] [[Bild:Old.png]]
"""
LIMA_TEXT = (
    "Lima (Limaq) is the capital of Peru. It was founded c. 1535 by L'\u00c9tat; the valley is 5 to 7 km "
    "long & dry.\n\nIn 1746 an earthquake came. See the report.\n\nSilver went to Spain\n\nGold too\n\n"
    "It seldom rains."
)


def page(
    title: str, text: str, *, number: int, namespace: int = 0, redirect: str = "", model: str = "wikitext"
) -> str:
    """Write one page as MediaWiki does."""
    target = f'    <redirect title="{escape(redirect)}" />\n' if redirect else ""
    return f"""  <page>
    <title>{escape(title)}</title>
    <ns>{namespace}</ns>
    <id>{number}</id>
{target}    <revision>
      <id>{number}07</id>
      <timestamp>2025-09-01T00:00:00Z</timestamp>
      <contributor>
        <username>Someone</username>
        <id>3</id>
      </contributor>
      <origin>{number}07</origin>
      <model>{model}</model>
      <format>text/x-wiki</format>
      <text bytes="{len(text.encode())}" sha1="x" xml:space="preserve">{escape(text)}</text>
      <sha1>x</sha1>
    </revision>
  </page>
"""


def sentence(number: int) -> str:
    """Write an article's markup that differs from the next one's."""
    return f"The '''{number}th''' [[river]] rises in {1500 + number}. It flows to the [[sea|great sea]]."


# What becomes of each page, in order.
PAGES = [
    page("Lima", LIMA, number=1),
    page("Lima, Peru", "#WEITERLEITUNG [[Lima]]", number=2, redirect="Lima"),
    page("Vorlage:Infobox Ort", "{| class=box\n|}", number=3, namespace=10),
    page("R & <b>", sentence(4), number=4),
    page("Diskussion:Lima", "Is it so? --~~~~", number=5, namespace=1),
    page("Modul.js", "var x;", number=6, model="javascript"),
    page("Nur Tabelle", "{|\n| a\n|}", number=7),
    page("Kaputt", sentence(8), number=8).replace("</contributor>", "</contributer>"),
    page("Zerbrochen", "{{a|" * 300, number=9),
    page("Falsche Bytes", "\u00e9" + sentence(10), number=10),
    page("Old redirect", "#redirect [[Lima]]", number=11),
    *(page(f"River {i}", sentence(i), number=i) for i in range(12, 30)),
]
SKIPPED = {"other_model": 1, "other_namespace": 2, "redirect": 2}
BAD = {"broken_wikitext": 1, "broken_xml": 1, "empty_text": 1, "invalid_utf8": 1}
ARTICLES = 20


def dump_bytes(pages: list[str] | None = None) -> bytes:
    """Write a dump; one page of it is not UTF-8."""
    text = HEAD + "".join(PAGES if pages is None else pages) + TAIL
    return text.encode().replace(b"\xc3\xa9The", b"\xe9The")


def multistream(data: bytes, *, pages: int = 10) -> bytes:
    """Compress a dump as the multistream files are: head, every so many pages, and end, each by itself."""
    head, *rest = data.split(b"  <page>")
    *rest, last = rest
    last, tail = last[: last.index(b"</mediawiki>")], TAIL.encode()
    units = [b"  <page>" + part for part in (*rest, last)]
    groups = [b"".join(units[i : i + pages]) for i in range(0, len(units), pages)]
    return b"".join(map(bz2.compress, [head, *groups, tail]))


def damaged(packed: bytes) -> bytes:
    """Spoil some bytes in the middle of a file."""
    middle = len(packed) // 2
    return packed[:middle] + b"\xff" * 10 + packed[middle + 10 :]
