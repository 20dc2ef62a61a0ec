"""Regular expressions with a time limit."""

from unittest.mock import patch

import pytest

import realm_jax.text.regex as module
from realm_jax.text.regex import RegexMatcher

ENDLESS = r"(a+)+$"  # takes 2 ** n steps on n times "a" and a "b"


def test_matches_from_the_beginning_ignoring_case():
    with RegexMatcher() as matcher:
        assert matcher.match("NEIL Armstrong", [r"neil\s+arm"])
        assert not matcher.match("astronaut Neil", ["neil"])
        assert not matcher.match("anything", [])


def test_lines_begin_and_end_as_in_the_official_evaluation():
    with RegexMatcher() as matcher:
        assert matcher.match("Miami\nFlorida", [r"^\s*Miami\s*$"])
        assert matcher.search("on\nnewspaper", ["^newspapers?$"]) == [(3, 12)]


def test_a_pattern_is_given_up_for_what_one_text_takes_not_for_what_many_take_together():
    with RegexMatcher() as matcher:
        ask, asked = matcher._reply, []

        def too_slow_for_two(pattern, texts, *, every):
            asked.append(len(texts))
            return None if len(texts) > 1 else ask(pattern, texts, every=every)

        with patch.object(matcher, "_reply", too_slow_for_two):
            assert matcher.search_all(["1969", "no", "in 1970"], [r"19\d\d"]) == [[(0, 4)], [], [(3, 7)]]
        assert asked == [3, 1, 1, 1] and matcher.timeouts == 0


def test_broken_patterns_do_not_match_and_do_not_stop_the_others():
    with RegexMatcher() as matcher:
        assert matcher.match("x", ["(unclosed", "x"])
        assert not matcher.match("x" * 5, ["x{99999999999999}"])


def test_searching_returns_all_places_and_no_empty_ones():
    with RegexMatcher() as matcher:
        assert matcher.search("in 1969 or 1970\n1971", [r"19\d\d", "x*"]) == [(3, 7), (11, 15), (16, 20)]


def test_a_pattern_without_end_is_given_up_and_the_next_one_runs():
    with RegexMatcher(seconds=0.2) as matcher:
        assert not matcher.match("a" * 64 + "b", [ENDLESS])
        assert matcher.timeouts == 1
        assert matcher.match("1969", ["19"])
        with patch.object(matcher, "close", side_effect=AssertionError("it was tried again")):
            assert not matcher.match("a" * 64 + "b", [ENDLESS])
        assert matcher.timeouts == 1
    matcher.close()  # closing twice is harmless


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_many_texts_are_searched_as_one_by_one(monkeypatch, at_once):
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    texts = ["in 1969 or 1970", "", "no year", "1971"]
    with RegexMatcher() as matcher:
        found = matcher.search_all(texts, [r"19\d\d", "(broken", "or"])
        assert found == [matcher.search(text, [r"19\d\d", "or"]) for text in texts]
    assert [len(hits) for hits in found] == [3, 0, 0, 1]


def test_a_helper_that_ends_is_replaced_and_its_pattern_given_up():
    with RegexMatcher() as matcher:
        assert matcher.match("1969", ["19"])
        before = matcher._process
        with patch.object(module.json, "dumps", return_value="no json"):  # ends the helper
            assert not matcher.match("1970", [r"19\d\d"])
        assert before.poll() is not None and matcher.timeouts == 1
        assert matcher.match("1971", ["197"])
