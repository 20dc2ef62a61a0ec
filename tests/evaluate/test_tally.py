"""Means, intervals, and the rows of the table by source."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.evaluate.tally import Tally, bootstrap_interval, table_json, tally, tally_by_source


def test_the_interval_of_a_share_is_near_that_of_the_binomial():
    values = np.array([1.0] * 300 + [0.0] * 700)
    low, high = bootstrap_interval(values, samples=4000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)  # normal approximation of the binomial
    assert low == pytest.approx(0.3 - half, abs=0.004)
    assert high == pytest.approx(0.3 + half, abs=0.004)


def test_an_interval_is_the_same_every_time_and_another_with_another_seed():
    values = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)


@settings(deadline=None)  # machines are busy at times
@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_an_interval_lies_within_the_values_and_is_a_point_for_equal_ones(values):
    low, high = bootstrap_interval(np.array(values), samples=50)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    one = np.full(len(values), values[0])
    assert bootstrap_interval(one, samples=10) == pytest.approx((values[0], values[0]))


def test_unknown_values_are_left_out_of_sum_and_count():
    found = tally(np.array([1.0, np.nan, 0.0, 1.0]))
    assert found is not None
    assert (found.total, found.count, found.mean) == (2.0, 3, pytest.approx(2 / 3))
    assert tally(np.array([np.nan, np.nan])) is None


def test_rows_are_all_each_source_and_shared_prefixes():
    sources = ["nq_train", "nq_dev", "squad_dev", "nq_dev"]
    values = {"hit": np.array([1.0, 0.0, 1.0, 1.0]), "gold": np.array([np.nan, np.nan, 1.0, np.nan])}
    table = tally_by_source(values, sources)
    assert list(table) == ["all", "nq_dev", "nq_train", "squad_dev", "nq_*"]
    shown = {row: (cells["hit"].total, cells["hit"].count) for row, cells in table.items()}
    assert shown == {"all": (3, 4), "nq_dev": (1, 2), "nq_train": (1, 1), "squad_dev": (1, 1), "nq_*": (2, 3)}
    assert "gold" not in table["nq_*"] and table["all"]["gold"].count == 1


def test_a_source_that_is_called_all_does_not_replace_all():
    table = tally_by_source({"hit": np.array([1.0, 0.0, 0.0])}, ["all", "nq", "nq"])
    assert {row: cells["hit"].count for row, cells in table.items()} == {"all": 3, "source all": 1, "nq": 2}


def test_one_source_alone_has_no_row_of_its_own_but_a_named_one_among_unnamed_has():
    values = {"hit": np.array([1.0, 0.0])}
    assert list(tally_by_source(values, ["nq", "nq"])) == ["all"]
    assert list(tally_by_source(values, ["", ""])) == ["all"]
    assert list(tally_by_source(values, ["nq", ""])) == ["all", "nq"]


def test_json_holds_mean_interval_and_count():
    table = {"all": {"hit": Tally(3.0, 4, 0.5, 1.0)}}
    assert table_json(table) == {"all": {"hit": {"mean": 0.75, "low": 0.5, "high": 1.0, "count": 4}}}
