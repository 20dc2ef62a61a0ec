"""The long scripts call commands that parse, in an order in which every run they start from is there."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from realm_jax.commands.parsing import parse
from tests.test_documents import OPTIONS
from tests.test_experiments import EXPERIMENTS

ROOT = EXPERIMENTS.parent
FIXED_INPUTS = {"/minilm"}  # what a user brings
MAKES = ("--workdir", "--out")
NEEDS = ("--start-from", "--encoder-from", "--tokenizer", "--corpus")


@pytest.fixture
def calls(tmp_path):
    """Return what runs a script among stand-ins for `realm_jax` and `python`, and returns their commands."""
    (tmp_path / "experiments").mkdir()
    for script in EXPERIMENTS.glob("*.sh"):
        (tmp_path / "experiments" / script.name).write_text(script.read_text(encoding="utf-8"), "utf-8")
    (tmp_path / "experiments" / "environment.sh").write_text("enter_environment() { :; }\n", "utf-8")
    log = tmp_path / "log"
    for name in ("realm_jax", "python"):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'#!/usr/bin/env bash\n{{ printf "%q " {name} "$@"; echo; }} >> {log}\n', "utf-8")
        path.chmod(0o755)
    (tmp_path / "texts").mkdir()

    def run(script: str, *arguments: str) -> list[list[str]]:
        environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        words = ["bash", tmp_path / "experiments" / script, *arguments]
        subprocess.run(words, check=True, env=environment, cwd=tmp_path, capture_output=True)
        return [shlex.split(line) for line in log.read_text(encoding="utf-8").splitlines()]

    return run


def values_of(options: list[str], names: tuple[str, ...]) -> list[str]:
    return [value for name, value in zip(options, options[1:], strict=False) if name in names]


@pytest.mark.parametrize(
    ("script", "arguments"),
    [
        ("wiki_nq_mini.sh", ("texts", "3")),
        ("wiki_minilm.sh", ("texts", "/minilm", "3")),
        ("ablations.sh", ("0", "1")),
    ],
)
def test_commands_parse_and_start_from_what_was_made_before(calls, script, arguments):
    made, seeds = set(FIXED_INPUTS), set()
    commands = [line[1:] for line in calls(script, *arguments) if line[0] == "realm_jax"]
    assert len(commands) > 8
    for name, *options in commands:
        where = f"{script}: {name} {shlex.join(options)}"
        parse(OPTIONS[name], options, prog=where, examples="")
        wanted = values_of(options, NEEDS)
        if name in ("evaluate", "import"):
            wanted.append(options[0])
        for path in wanted:
            assert path in made or (ROOT / path).is_dir(), f"{path} is not there yet: {where}"
        for path in values_of(options, ("--experiment",)):
            assert (ROOT / path).is_file(), where
        made |= set(values_of(options, MAKES))
        seeds |= set(values_of(options, ("--seed",)))
    assert seeds == set(arguments[-1:] if script != "ablations.sh" else arguments)


def test_no_two_evaluations_are_written_to_one_place(calls):
    lines = calls("wiki_minilm.sh", "texts", "/minilm")
    places = [path for line in lines if line[1] == "evaluate" for path in values_of(line, ("--out",))]
    assert len(places) == len(set(places)) > 10
    assert all(Path(place).name.startswith("evaluation-") for place in places)
