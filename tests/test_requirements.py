"""What is installed for an accelerator is the JAX that the tests run on, by a name that JAX knows."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def pins(name: str) -> dict[str, str]:
    """Return the versions a requirements file pins, by package with its extra."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w\-]+(?:\[\w+\])?)==([\w.]+)", text, re.MULTILINE))


@pytest.mark.parametrize("accelerator", ["tpu", "gpu"])
def test_an_accelerator_gets_the_jax_of_the_requirements(accelerator):
    name = f"requirements-{accelerator}.txt"
    ((package, version),) = pins(name).items()
    assert version == pins("requirements.txt")["jax"]
    assert "-r requirements.txt" in (ROOT / name).read_text(encoding="utf-8").splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["optional-dependencies"][accelerator] == [package]
    assert re.findall(r"\[(\w+)\]", package)[0] in (metadata("jax").get_all("Provides-Extra") or [])
