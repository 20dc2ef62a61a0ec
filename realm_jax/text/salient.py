"""Salient spans: dates, numbers and named entities, found by rule.

Source: salient span masking, REALM section 3.4, where a CoNLL-2003 tagger and a regular expression for
dates find the spans. The rules here need no download; other taggers fit the same signature.
"""

import re
import sys
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from realm_jax.errors import ConfigError

KINDS = ("date", "number", "entity")  # a span's kind id is its place here


class SalientSpan(NamedTuple):
    """A stretch of text worth masking as a whole."""

    start: int  # first character
    stop: int  # character behind the last
    kind: str  # one of KINDS


Tagger = Callable[[str], list[SalientSpan]]


def tag_dates(text: str) -> list[SalientSpan]:
    """Find dates: years, days, months, decades, centuries."""
    return [SalientSpan(start, stop, "date") for start, stop in _dates(text)]


def tag_rules(text: str) -> list[SalientSpan]:
    """Find dates, numbers and runs of capitalised words; overlaps go to the first of these kinds.

    Args:
      text: a document or block; the more of it, the better ordinary words at sentence starts are told
        from names.

    Returns:
      Spans in order of their start, none overlapping another.
    """
    spans = tag_dates(text)
    taken = bytearray(len(text))
    for date in spans:
        taken[date.start : date.stop] = b"\1" * (date.stop - date.start)
    for match in _NUMBER.finditer(text):
        if not taken[match.start()]:
            spans.append(SalientSpan(match.start(), match.end(), "number"))
    for start, stop in _entities(text):
        if not any(taken[start:stop]):
            spans.append(SalientSpan(start, stop, "entity"))
    return sorted(spans)


TAGGERS: dict[str, Tagger] = {"rules": tag_rules, "dates": tag_dates}


def get_tagger(name: str) -> Tagger:
    """Return the tagger of that name."""
    if name not in TAGGERS:
        raise ConfigError(f"A tagger is one of {', '.join(TAGGERS)}", got=name, remedy="Choose one of them.")
    return TAGGERS[name]


# ---- dates and numbers -----------------------------------------------------------------------------

_MONTH = (r"(?:Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?|July?|Aug(?:ust|\.)?"
          r"|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)")
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_ERA = r"(?:\s?(?:BCE?|CE|AD|B\.C\.(?:E\.)?|A\.D\.))"
_YEAR = r"(?:1\d{3}|20\d{2})"
_ORDINAL = (r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth"
            r"|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty-first)")
_UNITS = (r"(?:people|inhabitants|residents|met(?:er|re)s?|kilomet(?:er|re)s?|km|miles?|feet|ft|kg|kilograms?"
          r"|ton(?:ne)?s?|years|m|square|million|billion|percent|per|students|soldiers|troops|men|women|copies"
          r"|seats|employees|members|dollars|pounds|yards|acres|hectares|votes|times)\b")
# The look-behinds keep digits inside decimals, sums and codes from being taken for years.
_DATE_FROM_DIGIT = re.compile(
    rf"""{_DAY}(?:\s+of)?\s+{_MONTH}(?:,?\s+\d{{4}}{_ERA}?)?\b
       | \d{{4}}-\d{{2}}-\d{{2}}\b
       | \d{{1,2}}/\d{{1,2}}/\d{{4}}\b
       | \d{{1,2}}(?:st|nd|rd|th)[\s-]century{_ERA}?\b
       | \d{{3}}0['\u2019]?s\b
       | \d{{1,4}}{_ERA}(?!\w)
       | {_YEAR}(?:[\u2013-](?:{_YEAR}|\d{{2}}(?!\d)))?(?![\w%]|[.,]\d|\s{_UNITS})""",
    re.VERBOSE,
)
_DATE_FROM_MONTH = re.compile(
    rf"""{_MONTH}(?:\s+{_DAY}\b(?:[\u2013-]{_DAY})?(?:,?\s+\d{{4}}\b{_ERA}?)?|,?\s+(?:of\s+)?\d{{4}}\b{_ERA}?)
       | (?:January|February|April|June|July|September|October|November|December)\b
       | (?:AD|A\.D\.)\s\d{{1,4}}\b""",
    re.VERBOSE,
)
_DATE_STARTS = re.compile(r"(?<![\w.,/$\u00a3\u20ac])\d|(?<!\w)[ADFJMNOS](?=[A-Za-z.]{1,8}[.,]?\s)")
_CENTURY = re.compile(rf"\b{_ORDINAL}[ -]century\b(?:{_ERA}(?!\w))?", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,])\d+(?:,\d{3})*(?:\.\d+)?(?![\w]|[.,]\d)")


def _dates(text: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    end = 0
    for candidate in _DATE_STARTS.finditer(text):
        at = candidate.start()
        if at < end:
            continue
        pattern = _DATE_FROM_DIGIT if text[at].isdigit() else _DATE_FROM_MONTH
        match = pattern.match(text, at)
        if match:
            end = match.end()
            found.append((at, end))
    if "century" in text:
        centuries = [m.span() for m in _CENTURY.finditer(text)]
        others = [f for f in found if not any(a < f[1] and f[0] < b for a, b in centuries)]
        found = sorted([*centuries, *others])
    return found


# ---- entities --------------------------------------------------------------------------------------

def _character_class(category: str) -> str:
    """Return the characters of a Unicode category, as ranges for a regular expression's [...]."""
    ranges: list[list[int]] = []
    for code in range(min(sys.maxunicode, 0x24FF)):
        if unicodedata.category(chr(code)) == category:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(chr(a) if a == b else f"{chr(a)}-{chr(b)}" for a, b in ranges)


_UPPER = _character_class("Lu")
_CAPITALISED = (rf"(?:(?:[{_UPPER}]\.)+(?:[{_UPPER}]\b)?"  # initials, U.S.
                rf"|(?:Mrs?|Ms|Dr|St|Prof|Gen|Col|Capt|Lt|Sgt|Rev|Jr|Sr|Mt|Ft)\.(?=\s[{_UPPER}])"
                rf"|[{_UPPER}][\w]*(?:['\u2019](?!s\b)\w+|-\w+)*)")
_LINK = (r"(?:\s(?:of|de|del|della|der|den|des|du|di|da|dos|das|do|van|von|zu|zur|la|le|les|el|al|bin|ibn|y|e"
         r"|&|the|of\sthe|de\sla|de\slos|van\sder|van\sden|von\sder|in\sthe|for)(?=\s)|\s?[&\u2013](?=\s?)|)")
_ENTITY = re.compile(rf"(?<![\w]){_CAPITALISED}(?:{_LINK}\s{_CAPITALISED})*")
_WORD = re.compile(r"\S+")
_SENTENCE_BEFORE = re.compile(r"(?:^|[.!?:;\u2026][\"'\u201d\u2019)\]]*\s|\n)\s*[\"'\u201c\u2018(\[]*$")

def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Ordinary words that often stand at a sentence's start, or are capitalised in headings.
STOP_WORDS = _words("""
    a about above according across actually additionally after afterwards again against all almost alone
    along already also although always am among an and another any anyone anything apart are around as
    aside at away back based be because been before behind being below besides best better between beyond
    both but by came can cannot certain chapter could critics currently despite did do does done down due
    during each earlier early either else elsewhere especially even eventually ever every everyone
    everything example except experts few figure finally first five following for former formerly four
    from further furthermore given had half has have having he hence her here hers herself him himself his
    how however i if in including indeed initially inside instead into is it its itself just lack large
    last late later latter least less let like likewise little located long made mainly many may maybe me
    meanwhile men might mine modern more moreover most mostly much must my myself named near nearly
    neither never nevertheless new next nine no nobody none nonetheless nor not note nothing notably now
    nowadays of off officially often old on once one only onto opposite or originally other others
    otherwise our ours out outside over overall own part people perhaps prior previously probably rather
    recent recently researchers same scholars scientists second section see seven several shall she should
    shortly similar similarly simply since six so some someone something sometimes soon specifically still
    subsequently such table ten than thank that the their theirs them then there thereafter therefore
    these they third this those though three through throughout thus to today together too toward towards
    traditionally twelve twice two typically under unless unlike until up upon us used using usually
    various very via was we well were what whatever when whenever where whereas wherever whether which
    while who whoever whole whom whose why will with within without women would yes yet you your
    """)


def _entities(text: str) -> list[tuple[int, int]]:
    found = []
    lowered: frozenset[str] | None = None
    for match in _ENTITY.finditer(text):
        start, stop = match.span()
        run = match.group()
        words = [(m.start(), m.end()) for m in _WORD.finditer(run)] if " " in run else [(0, stop - start)]
        first, last = 0, len(words)
        while first < last and _plain(run[slice(*words[first])]):
            first += 1
        while last > first and _plain(run[slice(*words[last - 1])]):
            last -= 1
        if first == last:
            continue
        if first == 0 and last == 1:
            if _SENTENCE_BEFORE.search(text, max(0, start - 8), start):
                lowered = lowered if lowered is not None else frozenset(text.split())
                if run.lower() in lowered:
                    continue
            if stop - start == 1:  # a lone letter
                continue
        end = start + words[last - 1][1]
        found.append((start + words[first][0], end))
    return found


def _plain(word: str) -> bool:
    return word.lower() in STOP_WORDS or not word[0].isalnum() or word[0].islower()
