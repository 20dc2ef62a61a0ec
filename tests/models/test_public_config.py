"""config.json and pooling files, there and back."""

import json
from pathlib import Path

import pytest

from realm_jax.errors import CheckpointError
from realm_jax.models.public_config import (
    model_config,
    public_config,
    read_pooling,
    reader_config,
    write_pooling,
)
from tests.models.small import small_config


def test_there_and_back() -> None:
    config = small_config()
    assert model_config(public_config(config, architecture="X", family="realm"), family="realm") == config


@pytest.mark.parametrize(
    ("family", "activation"), [("bert", "gelu"), ("realm", "gelu_tanh")], ids=["erf", "tanh"]
)
def test_defaults_are_those_of_the_family(family: str, activation: str) -> None:
    """The library leaves values out of config.json that equal its defaults."""
    config = model_config({}, family=family)
    assert config["bert"]["activation"] == activation
    assert (config["bert"]["hidden_size"], config["bert"]["num_layers"]) == (768, 12)
    assert (config["embedding_size"], config["span_hidden_size"], config["max_span_width"]) == (128, 256, 10)
    assert (config["bert"]["layer_norm_eps"], config["span_norm_eps"]) == (1e-12, 1e-3)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_pooling_there_and_back(tmp_path: Path, pooling: str, normalize: bool) -> None:
    assert read_pooling(tmp_path) is None
    write_pooling(tmp_path, pooling=pooling, normalize=normalize, size=8)
    assert read_pooling(tmp_path) == (tmp_path, pooling, normalize)


@pytest.mark.parametrize(
    ("said", "pooling"),
    [
        ({"embedding_dimension": 8, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": ["cls"]}, "cls"),
        ({"word_embedding_dimension": 8}, "mean"),
    ],
    ids=["newer", "newer, a list", "nothing said"],
)
def test_a_pooling_may_be_named(tmp_path: Path, said: dict, pooling: str) -> None:
    write_pooling(tmp_path, pooling="mean", normalize=True, size=8)
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(said))
    assert read_pooling(tmp_path) == (tmp_path, pooling, True)


@pytest.mark.parametrize("said", [{"pooling_mode": "max"}, {"pooling_mode": ["mean", "cls"]}])
def test_other_named_poolings_are_refused(tmp_path: Path, said: dict) -> None:
    write_pooling(tmp_path, pooling="mean", normalize=True, size=8)
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(said))
    with pytest.raises(CheckpointError, match="must choose one pooling"):
        read_pooling(tmp_path)


@pytest.mark.parametrize("value", [None, 0, 64.0, True, "64"])
def test_how_a_reader_is_used_is_said_in_numbers(value: object) -> None:
    assert reader_config({"reader_seq_len": 48}) == {
        "reader_seq_len": 48,
        "searcher_seq_len": 64,
        "reader_beam_size": 5,
    }
    with pytest.raises(CheckpointError, match="sizes must be integers from 1 up"):
        reader_config({"reader_beam_size": value})


def test_unknown_modules_and_poolings_are_refused(tmp_path: Path) -> None:
    write_pooling(tmp_path, pooling="mean", normalize=False, size=8)
    modes = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(modes | {"pooling_mode_max_tokens": True}))
    with pytest.raises(
        CheckpointError, match="must choose one pooling, of mean, cls, but got mean, pooling_mode_max_tokens"
    ):
        read_pooling(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (tmp_path / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(CheckpointError, match="Transformer, Pooling, Dense"):
        read_pooling(tmp_path)
    for content, message in (
        ("{}", "must hold a JSON list"),
        ('[{"path": ""}]', "modules with type and path"),
    ):
        (tmp_path / "modules.json").write_text(content)
        with pytest.raises(CheckpointError, match=message):
            read_pooling(tmp_path)
