"""The ablations' script and report: every variant has its row, and orderings are told as they are."""

import re
import subprocess

import pytest
from rich.console import Console

from experiments.ablations_report import LABELS, MATCH, RECALL, SAME_READER, orderings, show, spread
from tests.test_experiments import EXPERIMENTS

SCRIPT = EXPERIMENTS / "ablations.sh"
GOOD = {
    MATCH: {"closed": [0.0, 0.0], "none": [0.2, 0.3], "realm": [0.5, 0.6], "stale": [0.6, 0.7]},
    RECALL: {"none": [0.4, 0.4], "realm": [0.5, 0.5], "stale": [0.5, 0.3]},
    SAME_READER: {"none": [0.1, 0.2], "realm": [0.3, 0.2], "stale": [0.2, 0.2]},
}


def test_every_variant_of_the_script_has_a_row():
    known = re.search(r'^known="(.+)"$', SCRIPT.read_text(encoding="utf-8"), flags=re.MULTILINE)[1].split()
    assert known == [name for name in LABELS if name not in ("closed", "none", "realm")]


def test_an_unknown_variant_is_refused_before_work_starts():
    done = subprocess.run(
        ["bash", SCRIPT, "--variants", "stale fresher"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and "got fresher" in done.stderr and not done.stdout


def test_an_ordering_holds_if_the_means_have_it():
    said = orderings(GOOD)
    assert [holds for _, holds in said] == [True] * 6 + [False]
    assert said[-1][0] == "exact_match: realm 0.550 over stale 0.650"
    assert orderings({MATCH: {"realm": [1.0]}, RECALL: {}, SAME_READER: {}}) == []


def test_means_and_standard_deviations_are_written():
    assert spread([0.5, 0.7]) == "0.600 ± 0.141"  # |0.7 - 0.5| / sqrt 2
    assert (spread([0.25]), spread([])) == ("0.250", "")


def test_the_table_has_a_row_a_variant_and_a_line_an_ordering():
    console = Console(width=120, record=True)
    show(GOOD, console)
    text = console.export_text()
    assert text.count("DOES NOT HOLD") == 1 and text.count("holds: ") == 6
    for row in GOOD[MATCH]:
        assert LABELS[row] in text


@pytest.mark.parametrize("figure", [MATCH, RECALL, SAME_READER])
def test_seeds_are_averaged(figure):
    worse = {**GOOD, figure: {**GOOD[figure], "realm": [0.9, -0.9]}}
    assert not all(holds for words, holds in orderings(worse) if words.startswith(figure))
