"""config.json and pooling files, there and back."""

import json
from pathlib import Path

import pytest

from realm_jax.errors import CheckpointError
from realm_jax.models.public_config import model_config, public_config, read_pooling, write_pooling
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


def test_unknown_modules_and_poolings_are_refused(tmp_path: Path) -> None:
    write_pooling(tmp_path, pooling="mean", normalize=False, size=8)
    modes = json.loads((tmp_path / "1_Pooling/config.json").read_text())
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps(modes | {"pooling_mode_max_tokens": True}))
    with pytest.raises(CheckpointError, match="exactly one of"):
        read_pooling(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    dense = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
    (tmp_path / "modules.json").write_text(json.dumps([*modules, dense]))
    with pytest.raises(CheckpointError, match="Transformer, Pooling, Dense"):
        read_pooling(tmp_path)
