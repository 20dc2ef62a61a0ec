"""The command `plan`: tables, JSON, and what it refuses."""

import json

import pytest

from realm_jax.cli import main
from realm_jax.plan import compiled
from realm_jax.plan.compiled import CompiledStep

EXPERIMENT = """
from realm_jax.config import BertConfig, Config, ModelConfig, RealmConfig


def config():
    bert = BertConfig(hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16)
    return Config(name="small", model=ModelConfig(bert=bert), realm=RealmConfig(batch_size=32))
"""


@pytest.fixture
def experiment(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(EXPERIMENT, encoding="utf-8")
    return str(path)


def test_json_holds_the_plan_of_the_experiment_with_what_was_overridden(experiment, capsys):
    words = ["plan", "--config", experiment, "--topology", "v4:2x2x1", "--json", "--blocks", "1000"]
    assert main([*words, "--realm.microbatches", "4", "--index.engine", "exact"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["experiment"], plan["phase"], plan["blocks"]) == ("small", "realm", 1000)
    assert (plan["chips"], plan["tensor_cores"], plan["accelerator_type"]) == (4, 8, "v4-8")
    assert plan["mesh"] == {"data": 4, "fsdp": 1, "tensor": 1}
    assert plan["microbatches"] == 4 and plan["corpus_is_assumed"]
    assert plan["chip_bytes"]["total"] == sum(plan["chip_bytes"].values()) - plan["chip_bytes"]["total"]


def test_the_tables_say_what_fits_and_what_was_tried(experiment, capsys, monkeypatch):
    answers = iter([CompiledStep(False, 20 << 30, available=15 << 30), CompiledStep(True, 9 << 30)])
    monkeypatch.setattr(compiled, "slice_devices", lambda topology: [])
    monkeypatch.setattr(compiled, "compile_apart", lambda job: next(answers))
    assert main(["plan", "--experiment", experiment, "--topology", "v5e:2x4", "--compile"]) == 0
    shown = capsys.readouterr().out
    assert "small, phase realm, on v5e:2x4 (v5litepod-8): 8 chips, 2 hosts" in shown
    assert "as asked for: does not fit, 20.00 of 15.00 GiB" in shown
    assert "fits with --realm.microbatches 2" in shown
    for line in (
        "model FLOPs of a step",
        "chip-hours",
        "chips of these that only embed",
        "staleness in steps",
    ):
        assert line in shown


def test_a_corpus_that_is_prepared_is_measured(tiny_runs, experiment, capsys):
    words = ["plan", "--experiment", experiment, "--topology", "h100:1", "--json"]
    assert main([*words, "--corpus", str(tiny_runs.corpus)]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["blocks"] == 12 and not plan["corpus_is_assumed"] and plan["tensor_cores"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--topology", "v5e:8"], "2 dimensions"),
        (["--topology", "h100:8", "--compile"], "asks the TPU compiler"),
        (["--topology", "h100:8", "--share", "45"], "--share is a share of the peak"),
        (["--topology", "h100:8", "--blocks", "0"], "--blocks is at least 1"),
        (["--topology", "v5e:8x8"], "realm.batch_size must be a multiple"),
    ],
)
def test_what_cannot_be_planned_is_refused(experiment, words, said, capsys):
    assert main(["plan", "--experiment", experiment, *words]) == 2
    assert said in capsys.readouterr().err
