"""Where the values of a training command come from, and what it hands to the run."""

import json
from pathlib import Path

import pytest

from realm_jax.cli import main
from realm_jax.commands.training import Ict, base_config, changes, load_experiment, parse_training
from realm_jax.config import Config, IctConfig, to_dict
from realm_jax.errors import ConfigError

EXPERIMENT = """
from realm_jax.config import Config, IctConfig, ShapeConfig

def config():
    return Config(name="mine", seed=3, ict=IctConfig(steps=7), shapes=ShapeConfig(null_block=False))
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(EXPERIMENT)
    return path


def parsed(*arguments: str) -> Ict:
    return parse_training(Ict, arguments, prog="realm_jax ict", examples="")


def test_values_come_from_the_experiment_and_single_ones_are_overridden(experiment):
    options = parsed("--workdir", "w", "--experiment", str(experiment), "--ict.batch-size", "5")
    assert options.config.name == "mine" and options.config.seed == 3
    assert (options.config.ict.steps, options.config.ict.batch_size) == (7, 5)
    assert options.workdir == Path("w") and options.experiment == experiment
    assert options.config.realm == Config().realm


@pytest.mark.parametrize("default", [True, False])
def test_a_switch_can_be_set_either_way_whatever_the_experiment_says(experiment, default):
    given = ["--experiment", str(experiment)] if not default else []
    assert parsed("--workdir", "w", *given).config.shapes.null_block is default
    assert parsed("--workdir", "w", *given, "--shapes.null-block").config.shapes.null_block is True
    assert parsed("--workdir", "w", *given, "--shapes.no-null-block").config.shapes.null_block is False


def test_without_an_experiment_the_run_before_gives_the_values(experiment, tmp_path):
    before = tmp_path / "before"
    before.mkdir()
    (before / "config.json").write_text(json.dumps(to_dict(Config(seed=9, ict=IctConfig(steps=2)))))
    options = parsed("--workdir", "w", "--start-from", str(before))
    assert (options.config.seed, options.config.ict.steps, options.start_from) == (9, 2, before)
    both = parsed("--workdir", "w", "--start-from", str(before), "--experiment", str(experiment))
    assert both.config.seed == 3 and both.start_from == before
    assert parsed("--workdir", "w").config == Config()
    (before / "config.json").write_text('{"seed": 9, "ic')
    with pytest.raises(ConfigError, match="config.json of a run is JSON"):
        base_config(None, before)
    with pytest.raises(ConfigError, match="--start-from names the folder of a run.*nothing"):
        base_config(None, tmp_path / "nothing")


def test_what_is_no_experiment_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Python file"):
        load_experiment(tmp_path / "none.py")
    for source in ("x = 1", "def config():\n    return {}", "config = 3"):
        path = tmp_path / "wrong.py"
        path.write_text(source)
        with pytest.raises(ConfigError, match="returns a Config"):
            load_experiment(path)


def test_changes_are_named_by_their_dotted_names():
    assert changes(Config(), Config()) == []
    assert changes(Config(seed=1, ict=IctConfig(steps=7)), Config()) == [("seed", 1), ("ict.steps", 7)]


@pytest.mark.parametrize(
    ("command", "module", "function", "more"),
    [
        ("ict", "ict", "run_ict", {}),
        ("read", "realm", "run_realm", {"phase_name": "read"}),
        ("pretrain", "realm", "run_realm", {"phase_name": "realm"}),
        ("finetune", "qa", "run_qa", {}),
    ],
)
def test_each_command_runs_its_phase(command, module, function, more, experiment, monkeypatch, capsys):
    monkeypatch.chdir(experiment.parent)
    seen = {}

    def run(config, workdir, **settings):
        seen.update(config=config, workdir=workdir, **settings)
        return {"loss": 0.5}

    monkeypatch.setattr(f"realm_jax.runs.{module}.{function}", run)
    words = [
        command,
        "--workdir",
        "w",
        "--experiment",
        str(experiment),
        "--start-from",
        "b",
        "--stop-after",
        "4",
        "--trace-steps",
        "3",
    ]
    assert main(words) == 0
    assert seen.pop("config").ict.steps == 7
    assert seen == {
        "workdir": Path("w"),
        "start_from": Path("b"),
        "encoder_from": None,
        "stop_at": 4,
        "trace_steps": 3,
        **more,
    }
    shown = capsys.readouterr().out
    assert "ict.steps = 7" in shown and 'name = "mine"' in shown and "loss=0.5" in shown
