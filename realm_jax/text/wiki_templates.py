"""What a template says in the middle of a sentence.

A dump holds the call of a template, not what it expands to: that would take the template's own page, its
modules, and MediaWiki. Almost all of them are boxes, notes and references, which are no prose and are left
out. Those here stand inside sentences, which would lose a number, a date or a word without them. The names
are English Wikipedia's.
"""

import calendar
import re
from collections.abc import Callable, Mapping, Sequence

# (values without a name, values with one) -> what is read
Inline = Callable[[Sequence[str], Mapping[str, str]], str]


def template_text(name: str, values: Sequence[str], named: Mapping[str, str]) -> str:
    """Return what a template says, or nothing where it is not one of those that stand in sentences.

    Args:
      name: of the template, or a parser function with its first value ("formatnum:1234").
      values: those without a name, in order, as plain text.
      named: the others.
    """
    key = " ".join(name.replace("_", " ").split()).casefold()
    if key.startswith("formatnum:"):
        return name.partition(":")[2].strip()
    if key.startswith("lang-") or key.startswith("lang "):
        return _at(values, 0)
    found = INLINE.get(key)
    return found(values, named) if found else ""


def _at(values: Sequence[str], place: int) -> str:
    return values[place] if len(values) > place else ""


def _first(values: Sequence[str], named: Mapping[str, str]) -> str:
    return _at(values, 0) or named.get("1", "")


def _second(values: Sequence[str], named: Mapping[str, str]) -> str:
    return _at(values, 1) or named.get("2", "") or named.get("text", "")


def _last(values: Sequence[str], named: Mapping[str, str]) -> str:
    del named
    return values[-1] if values else ""


def _says(text: str) -> Inline:
    return lambda values, named: text


def _convert(values: Sequence[str], named: Mapping[str, str]) -> str:
    """Read `5|km` as "5 km", and `5|to|10|km` as "5 to 10 km": the first unit, which is the writer's own."""
    del named
    text, place = _at(values, 0), 1
    while _at(values, place) in _BETWEEN and len(values) > place + 1:
        text += _BETWEEN[values[place]] + values[place + 1]
        place += 2
    text += f" {_at(values, place)}"
    # More than one unit, as in `5|ft|10|in|m`; the last one is what it is converted to.
    while len(values) > place + 2 and _NUMBER.fullmatch(values[place + 1]):
        text += f" {values[place + 1]} {values[place + 2]}"
        place += 2
    return text.strip()


def _circa(values: Sequence[str], named: Mapping[str, str]) -> str:
    del named
    return "c. " + " \u2013 c. ".join(values[:2])


def _as_of(values: Sequence[str], named: Mapping[str, str]) -> str:
    """Read `2010|3|5` as "As of 5 March 2010"."""
    if "alt" in named:
        return named["alt"]
    date = list(values[:3])
    if len(date) > 1 and date[1].isdigit() and 1 <= int(date[1]) <= 12:
        date[1] = calendar.month_name[int(date[1])]
    start = "as of" if named.get("lc", "").startswith("y") else "As of"
    return " ".join([start, *reversed(date)])


def _value(values: Sequence[str], named: Mapping[str, str]) -> str:
    power = f"\u00d710^{named['e']}" if named.get("e") else ""
    return f"{_at(values, 0)}{power} {named.get('u', named.get('ul', ''))}".strip()


def _link(values: Sequence[str], named: Mapping[str, str]) -> str:
    return named.get("lt") or _first(values, named)


def _fraction(values: Sequence[str], named: Mapping[str, str]) -> str:
    del named
    if len(values) == 3:
        return f"{values[0]} {values[1]}/{values[2]}"
    return "/".join(values if len(values) == 2 else ["1", *values])


def _quotation(values: Sequence[str], named: Mapping[str, str]) -> str:
    text = named.get("text") or named.get("quote") or _first(values, named)
    return f"\n\n{text}\n\n"


_NUMBER = re.compile(r"[\d.,/+]+")
_BETWEEN = {
    "-": "\u2013",
    "+": " + ",
    "\u2013": "\u2013",
    "to": " to ",
    "to(-)": " to ",
    "and": " and ",
    "or": " or ",
    "by": " by ",
    "x": " by ",
    "\u00d7": " by ",
}
_NAMES: dict[Inline, str] = {
    _first: "nowrap|nobr|small|smaller|big|abbr|tooltip|sc|smallcaps|sub|sup|strong|em|noitalic"
    "|visible anchor|vanchor",
    _link: "ill|interlanguage link",
    _second: "lang|langx|script|color|font color",
    _last: "rtl-lang|shy|transl|transliteration",
    _convert: "convert|cvt",
    _circa: "circa|c.|ca.",
    _as_of: "as of",
    _value: "val",
    _fraction: "frac|fraction|sfrac",
    _quotation: "quote|blockquote|block quote|cquote|quotation",
    _says("\u2013"): "ndash|endash|en dash|nd",
    _says("\u2014"): "mdash|emdash|em dash",
    _says(" \u2013 "): "snd|spnd|spaced ndash|spaced en dash",
    _says(" \u2014 "): "spaced mdash|spaced em dash",
    _says(" "): "nbsp|space|spaces|thin space|thinsp|hair space|hsp|zwsp",
    _says("'"): "'|apostrophe",
    _says("|"): "!",
    _says("="): "=",
}
INLINE: dict[str, Inline] = {name: inline for inline, names in _NAMES.items() for name in names.split("|")}
