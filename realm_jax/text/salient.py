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
from realm_jax.text.blocks import word_set

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

# Frequent names that end like adverbs or participles.
NAMES_LIKE_ADVERBS = word_set("""
    italy sicily thessaly july emily lily sally molly billy kelly willy holly polly reilly connolly beijing
    nanjing boeing wyoming reading sterling irving fleming harding goering ming xiaoping keating alfred fred
    ted ned wilfred manfred mildred ahmed mohammed muhammed mohamed hamed reed winifred
    """)
# Words that are no part of a name at its ends, though a sentence or heading may capitalise them.
FUNCTION_WORDS = word_set("""
    a about above across additionally after afterwards again against all along alongside already also
    although always among amongst an and another any apart are around as aside at away be because been
    before behind being below beneath beside besides between beyond born both but by can cannot could
    despite did do does due during each either else even every except few for former formerly from further
    furthermore given had has have having he hence her here hers herself him himself his how however i if
    in including indeed instead into is it its itself later latter least less let many me meanwhile might
    mine more moreover most mostly much must my neither never nevertheless no none nonetheless nor not of
    often on once only onto or other others otherwise our ours over per perhaps rather same several shall
    she should similarly simply since so some sometimes soon still subsequently such than that the their
    theirs them themselves then there therefore these they this those though through throughout thus to
    today together too toward towards under unless unlike until up upon usually very via was we well were
    what whatever when whenever where whereas wherever whether which whichever while whilst who whoever
    whom whose why with within without would yes yet you your
    """)
# With them, words that are no name on their own.
ORDINARY_WORDS = FUNCTION_WORDS | word_set("""
    according actually additional afterward almost alone alternative altogether am ancient animals annual
    anyone anything approximately archaeologists areas article articles artists attempts average back
    based best better built came certain changes chapter children citation cities close commercial common
    concerns construction contemporary contrary countries critical criticism critics current currently
    data day days deep details differences different direct done down earlier early economic effective
    effects efforts eight eleven elsewhere episode especially estimates eventually ever everyone
    everything evidence example examples exceptions experts extensive external famous far figure finally
    first five following formal formed founded four fourteen free good government groups guest half heavy
    high historians historical history human hundreds important independent individual individuals
    information initial initially inside internal just key known lack large larger last late legal life
    like likewise little local located locations long low made mainly major may maybe members men mid
    millions minor modern multiple myself named near nearby nearly new next nine nobody notable notably
    note notes nothing now nowadays numerous off official officially officials old one opponents opposite
    opposition originally out outside overall own part parts past people plans plot political popular
    previous previously primary principal prior private probably production prominent proper proponents
    public rainfall rapid recent recently references regardless regional regular religious reports
    researchers respectively reviewers roughly scenes scholars scientists season second section see
    serious set seven shortly significant similar six sixteen small smaller someone something sometime
    source special specific specifically strong students studies subsequent table taken teachers
    temperatures ten tensions thank thanks thereafter things third thirteen thousands three time total
    traditional traditionally true twelve twenty twice two typical typically unable used using various
    volume weeks whole widespread will women work works worldwide written year years
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
            word = words[0] if _is_acronym(words[0]) else words[0].lower()
            if len(word) == 1 or word in ORDINARY_WORDS:
                continue
            if _opens_sentence(text, start):
                lowered = lowered if lowered is not None else frozenset(text.split())
                if word in lowered or (_looks_ordinary(word) and text.count(words[0]) == 1):
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


def _looks_ordinary(word: str) -> bool:
    """Say whether a word is probably an adverb or participle, which open sentences more often than names."""
    return word.endswith(("ly", "ing", "ed")) and word not in NAMES_LIKE_ADVERBS


def _plain(word: str) -> bool:
    """Say whether a word at the end of a run is none of the name."""
    if word[0].islower() or not word[0].isalnum():
        return True
    return word.lower() in FUNCTION_WORDS and not _is_acronym(word)


def _is_acronym(word: str) -> bool:
    return len(word) > 1 and word.isupper()
