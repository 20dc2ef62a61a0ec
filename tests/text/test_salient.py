"""Dates, numbers and names by rule."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import ConfigError
from realm_jax.text.salient import KINDS, get_tagger, tag_dates, tag_rules


def found(text, kind):
    return [text[s.start : s.stop] for s in tag_rules(text) if s.kind == kind]


@pytest.mark.parametrize(
    ("text", "dates"),
    [
        ("It began in 1914 and ended in 1918.", ["1914", "1918"]),
        ("born on 4 July 1776 in", ["4 July 1776"]),
        ("on July 4, 1776, they", ["July 4, 1776"]),
        ("on July 4th 1776", ["July 4th 1776"]),
        ("the 4th of July, every year", ["4th of July"]),
        ("in March 1990 and May", ["March 1990"]),
        ("dated 2004-02-29.", ["2004-02-29"]),
        ("the 1990s and the 1880's", ["1990s", "1880's"]),
        ("the 19th century and the 5th century BC", ["19th century", "5th century BC"]),
        ("of the nineteenth century.", ["nineteenth century"]),
        ("from 1914\u20131918 and 1939\u201345", ["1914\u20131918", "1939\u201345"]),
        ("in 44 BC, in AD 79, in 1066 AD", ["44 BC", "AD 79", "1066 AD"]),
        ("in September.", ["September"]),
        ("Mayor Janus marched; 1500 people, $1999, 12,1990 and 3.1990", []),
    ],
)
def test_dates(text, dates):
    assert [text[s.start : s.stop] for s in tag_dates(text)] == dates


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("a height of 8,849 m and 3.5 km", ["8,849", "3.5"]),
        ("about 12% of 1,234.56 dollars", ["12", "1,234.56"]),
        ("with 1500 people", ["1500"]),
        ("in 1990 the B52, a B-52 and the 3rd", []),
    ],
)
def test_numbers_leave_the_unit_out(text, numbers):
    assert found(text, "number") == numbers


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("He met Marie Curie in Paris.", ["Marie Curie", "Paris"]),
        ("The capital of France is Paris.", ["France", "Paris"]),
        ("the Battle of the Bulge and Ludwig van Beethoven", ["Battle of the Bulge", "Ludwig van Beethoven"]),
        ("by J. R. R. Tolkien and Shaquille O'Neal", ["J. R. R. Tolkien", "Shaquille O'Neal"]),
        ("Obama's visit to Guinea-Bissau", ["Obama", "Guinea-Bissau"]),
        ("the U.S. Congress and Dr. Strange", ["U.S. Congress", "Dr. Strange"]),
        ("However, it failed. Although It did.", []),
        ("Bacteria live here, and bacteria die.", []),  # the same word in lower case: no name
        ("Quickly he ran.", []),  # an adverb opens the sentence
        ("Italy won. Then Kelly lost.", ["Italy", "Kelly"]),
        ("Welding failed. They saw Welding again.", ["Welding", "Welding"]),
        ("the Constitution of March 1824", ["Constitution"]),
        ("In New York, the First World War ended.", ["New York", "First World War"]),
        ("The US and US Steel in The Hague", ["US", "US Steel", "Hague"]),
        ("Many High School Musical fans; In Paris The", ["High School Musical", "Paris"]),
        ("with \u00c9lodie \u00d6zil", ["\u00c9lodie \u00d6zil"]),
        ("a war in France\nGermany won", ["France", "Germany"]),
    ],
)
def test_names(text, names):
    assert found(text, "entity") == names


@given(st.text(st.sampled_from("AbcdeM .,'-\n190sJuly\u00e9\u0130&\u2013")) | st.text())
def test_spans_are_in_order_apart_and_inside(text):
    spans = tag_rules(text)
    assert all(0 <= s.start < s.stop <= len(text) and s.kind in KINDS for s in spans)
    assert all(a.stop <= b.start for a, b in zip(spans, spans[1:], strict=False))
    assert all(text[s.start : s.stop].strip() == text[s.start : s.stop] for s in spans)
    assert {s for s in spans if s.kind == "date"} == set(tag_dates(text))


def test_names_of_taggers():
    assert get_tagger("rules") is tag_rules and get_tagger("dates") is tag_dates
    with pytest.raises(ConfigError, match="rules, dates"):
        get_tagger("spacy")
