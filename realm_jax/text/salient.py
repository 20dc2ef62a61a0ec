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
    """Find dates, runs of capitalised words, and numbers; overlaps go to the first of these.

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
    for start, stop in _entities(text, taken):
        spans.append(SalientSpan(start, stop, "entity"))
        taken[start:stop] = b"\1" * (stop - start)
    for match in _NUMBER.finditer(text):
        if taken.find(1, match.start(), match.end()) < 0:
            spans.append(SalientSpan(match.start(), match.end(), "number"))
    return sorted(spans)


TAGGERS: dict[str, Tagger] = {"rules": tag_rules, "dates": tag_dates}


def get_tagger(name: str) -> Tagger:
    """Return the tagger of that name."""
    if name not in TAGGERS:
        raise ConfigError(f"A tagger is one of {', '.join(TAGGERS)}", got=name, remedy="Choose one of them.")
    return TAGGERS[name]


# ---- dates and numbers -----------------------------------------------------------------------------

_MONTH = (
    r"(?:Jan(?:uary|\.)?|Feb(?:ruary|\.)?|Mar(?:ch|\.)?|Apr(?:il|\.)?|May|June?|July?|Aug(?:ust|\.)?"
    r"|Sept?(?:ember|\.)?|Oct(?:ober|\.)?|Nov(?:ember|\.)?|Dec(?:ember|\.)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])(?:st|nd|rd|th)?"
_ERA = r"(?:\s?(?:BCE?|CE|AD|B\.C\.(?:E\.)?|A\.D\.))"
_YEAR = r"(?:1\d{3}|20\d{2})"
_ORDINAL = (
    r"(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth"
    r"|fourteenth|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty-first)"
)
_UNITS = (
    r"(?:people|inhabitants|residents|met(?:er|re)s?|kilomet(?:er|re)s?|km|miles?|feet|ft|kg|kilograms?"
    r"|ton(?:ne)?s?|years|m|square|million|billion|percent|per|students|soldiers|troops|men|women|copies"
    r"|seats|employees|members|dollars|pounds|yards|acres|hectares|votes|times)\b"
)
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
# Where a date may begin. Patterns here start with one class of characters and look behind from there:
# Python's matcher then skips through the text to the next of these, several times as fast as otherwise.
_DATE_STARTS = re.compile(
    r"[\dADFJMNOS](?:(?<=\d)(?<![\w.,/$\u00a3\u20ac].)"
    r"|(?<!\w.)(?:an|eb|ar|pr|ay|un|ul|ug|ep|ct|ov|ec|D\s|\.D))"
)
_CENTURY = re.compile(rf"\b{_ORDINAL}[ -]century\b(?:{_ERA}(?!\w))?", re.IGNORECASE)
_NUMBER = re.compile(r"\d(?<![\w.,].)\d*(?:,\d{3})*(?:\.\d+)?(?!\w|[.,]\d)")


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
_BLANK = r"[ \u00a0]"
_WORD_REST = rf"""(?:
      \.(?:[{_UPPER}]\.)*+(?:[{_UPPER}]\b)?        # initials, U.S.
    | \w*+(?:['\u2019](?!s\b)\w++|-\w++)*+         # O'Neill, Jean-Paul
      (?:(?:(?<=\b(?:Mr|Ms|Dr|St|Lt|Jr|Sr|Mt|Ft))|(?<=\b(?:Mrs|Gen|Col|Sgt|Rev))|(?<=\b(?:Prof|Capt)))
         \.(?={_BLANK}[{_UPPER}]))?)"""
_WORD = f"[{_UPPER}]{_WORD_REST}"
_OF, _DE, _VAN, _VON = (
    rf"{word}(?:{_BLANK}(?:{more}))?"
    for word, more in (("of", "the"), ("de", "la|los"), ("van", "der|den"), ("von", "der"))
)
_LINK = (
    rf"(?:{_OF}|{_DE}|{_VAN}|{_VON}|in{_BLANK}the|the|for|del|della|der|den|des|du|di|da|dos|das|do"
    rf"|zu|zur|la|le|les|el|al|bin|ibn|y|e|&){_BLANK}"
)
_ENTITY = re.compile(
    rf"[{_UPPER}](?<!\w.){_WORD_REST}(?:{_BLANK}(?:{_LINK}(?=[{_UPPER}]))?{_WORD}|[\u2013&]{_WORD})*+",
    re.VERBOSE,
)
_SENTENCE_BEFORE = re.compile(r"(?:^|[.!?:;\u2026][\"'\u201d\u2019)\]]*\s|\n)\s*[\"'\u201c\u2018(\[]*$")
_NOT_BEFORE_WORDS = frozenset(".!?:;\u2026\"'\u201d\u2019\u201c\u2018()[]\n\t\r")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Ordinary words that often stand at a sentence's start, or are capitalised in headings.
STOP_WORDS = _words("""
    a about above according across actually additionally after afterwards again against all almost alone
    along already also although always am among an and another any anyone anything apart approximately are
    around article articles as aside at away back based be because been before behind being below beside
    besides best better between beyond born both built but by came can cannot certain chapter citation
    could critical critics currently day days despite did do does done down due during each earlier early
    eight either else elsewhere episode especially even eventually ever every everyone everything example
    except experts few figure finally first five following for formed former formerly founded four from
    further furthermore given had half has have having he hence her here hers herself him himself his
    history how however hundreds i if in including indeed initially inside instead into is it its itself
    just lack large last late later latter least less let like likewise little located long made mainly
    many may maybe me meanwhile men mid might millions mine modern more moreover most mostly much must my
    myself named near nearly neither never nevertheless new next nine no nobody none nonetheless nor not
    notably note notes nothing now nowadays of off officially often old on once one only onto opposite or
    originally other others otherwise our ours out outside over overall own part people perhaps plot
    previously prior probably rather recent recently references researchers respectively roughly same
    scholars scientists season second section see seven several shall she shortly should similar similarly
    simply since six so some someone something sometimes soon source specifically still subsequently such
    table ten than thank that the their theirs them then there thereafter therefore these they third this
    those though thousands three through throughout thus to today together too total toward towards
    traditionally twelve twice two typically under unless unlike until up upon us used using usually
    various very via volume was we well were what whatever when whenever where whereas wherever whether
    which while who whoever whole whom whose why will with within without women work works would year
    years yes yet you your
    """)


def _entities(text: str, taken: bytearray) -> list[tuple[int, int]]:
    """Find names outside the characters that are taken (1)."""
    found = []
    lowered: frozenset[str] | None = None
    for match in _ENTITY.finditer(text):
        start, stop = match.span()
        date = taken.find(1, start, stop)
        if date >= 0:  # Constitution of [March 1824]
            stop = start + len(text[start:date].rstrip())
        words = text[start:stop].split()
        if len(words) > 1:
            start, stop = _trimmed(words, start, stop)
            words = text[start:stop].split()
        if not words:
            continue
        if len(words) == 1:
            word = words[0].lower()
            if len(word) == 1 or word in STOP_WORDS:
                continue
            if _opens_sentence(text, start):
                lowered = lowered if lowered is not None else frozenset(text.split())
                # Adverbs and participles open sentences more often than names that look like them.
                if word in lowered or (word.endswith(("ly", "ing", "ed")) and text.count(words[0]) == 1):
                    continue
        found.append((start, stop))
    return found


def _trimmed(words: list[str], start: int, stop: int) -> tuple[int, int]:
    """Take ordinary words off both ends of a run, and the stop off a closing initial."""
    first, last = 0, len(words)
    while first < last and _plain(words[first]):
        start += len(words[first]) + 1  # one blank between words
        first += 1
    while last > first and _plain(words[last - 1]):
        stop -= len(words[last - 1]) + 1
        last -= 1
    if first == last:
        return start, start
    return start, stop - (len(words[last - 1]) == 2 and words[last - 1][1] == ".")


def _opens_sentence(text: str, start: int) -> bool:
    """Say whether a word is the first of its sentence, quotation or line."""
    if start >= 2 and text[start - 1] == " " and text[start - 2] not in _NOT_BEFORE_WORDS:
        return False  # the usual case, decided fast
    return _SENTENCE_BEFORE.search(text, max(0, start - 8), start) is not None


def _plain(word: str) -> bool:
    return word.lower() in STOP_WORDS or not word[0].isalnum() or word[0].islower()
