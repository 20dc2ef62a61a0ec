"""Every experiment loads, says where it comes from, and survives being saved."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from realm_jax.commands.parsing import parse
from realm_jax.commands.text import Prepare
from realm_jax.commands.training import Finetune, Ict, Pretrain, Read, changes, load_experiment
from realm_jax.commands.using import Evaluate
from realm_jax.commands.weights import Import
from realm_jax.config import Config, from_json, to_dict
from realm_jax.errors import ConfigError

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
OPTIONS = {
    "prepare": Prepare,
    "ict": Ict,
    "read": Read,
    "pretrain": Pretrain,
    "finetune": Finetune,
    "evaluate": Evaluate,
    "import": Import,
}


def defines_config(path: Path) -> bool:
    """Tell whether a file has a function `config` at its top level."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(node, ast.FunctionDef) and node.name == "config" for node in tree.body)


def commands_of(path: Path) -> list[list[str]]:
    """Return the commands of an experiment's docstring, in words."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    command = text.split("Command:", 1)[1].replace("\\\n", " ")
    return [shlex.split(line) for line in command.splitlines() if line.strip()]


FILES = sorted(path for path in EXPERIMENTS.glob("*.py") if defines_config(path))
each_experiment = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def test_there_are_experiments():
    names = {path.stem for path in FILES}
    assert {"quickstart", "wiki_nq_mini", "ict_wiki", "realm_wiki", "realm_ccnews"} <= names
    assert {"openqa_nq", "openqa_webq", "openqa_curatedtrec"} <= names
    assert len([name for name in names if name.startswith("ablation_")]) >= 6


@each_experiment
def test_it_returns_a_config_that_survives_being_saved(path):
    config = load_experiment(path)
    assert isinstance(config, Config)
    assert config.name == path.stem
    assert config.corpus
    assert from_json(json.dumps(to_dict(config))) == config
    assert changes(config, Config()), "an experiment differs from the defaults"


@each_experiment
def test_it_says_source_expected_score_cost_and_command(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    first, *rest = text.splitlines()
    assert first.endswith(".") and rest[0] == ""
    assert re.findall(r"^(\w+):", text, flags=re.MULTILINE) == ["Source", "Expected", "Cost", "Command"]


@each_experiment
def test_its_commands_name_commands_files_and_options_that_are_there(path):
    lines = commands_of(path)
    assert lines
    for program, *arguments in lines:
        if program == "bash":
            assert (EXPERIMENTS.parent / arguments[0]).is_file()
        else:
            assert program == "realm_jax"
            name, *options = arguments
            parse(OPTIONS[name], options, prog=name, examples="")
            for word in options:
                assert not word.endswith(".py") or EXPERIMENTS.parent / word in FILES
    if all(program == "realm_jax" for program, *_ in lines):
        assert any(f"experiments/{path.name}" in line for line in lines)


@each_experiment
def test_its_rows_fit_its_model(path):
    config = load_experiment(path)
    longest = max(config.shapes.query_length, config.shapes.block_length, config.shapes.joint_length)
    assert longest <= config.model.bert.max_positions


def test_files_that_are_no_experiment_are_refused(tmp_path):
    empty, other = tmp_path / "empty.py", tmp_path / "other.py"
    empty.write_text("x = 1\n")
    other.write_text("def config():\n    return {'seed': 1}\n")
    for path in (empty, other, tmp_path / "absent.py"):
        with pytest.raises(ConfigError, match="experiment"):
            load_experiment(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def config(:", "SyntaxError.*broken.py, line 1"),
        ("import no_such_module", "ModuleNotFoundError.*broken.py, line 1"),
        ("from realm_jax.config import Config\n\ndef config():\n    return Config(corpos='x')", "corpos"),
        ("from realm_jax.config import Config\n\ndef config():\n    return Config(corpus=3)", "corpus"),
    ],
)
def test_what_is_wrong_in_an_experiment_file_is_said_with_its_place(tmp_path, text, said):
    (tmp_path / "broken.py").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_experiment(tmp_path / "broken.py")
