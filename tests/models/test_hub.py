"""A checkpoint is a folder here or a name on the hub."""

from pathlib import Path

import pytest

from realm_jax.errors import CheckpointError
from realm_jax.models.hub import WANTED, checkpoint_folder


def test_a_folder_is_itself(tmp_path: Path) -> None:
    def download(name: str, **rest: object) -> str:
        raise AssertionError("a local folder must not be looked for elsewhere")

    assert checkpoint_folder(str(tmp_path), download=download) == tmp_path


def test_a_name_is_fetched_without_anything_that_runs(tmp_path: Path) -> None:
    asked = {}

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(tmp_path)

    assert checkpoint_folder("owner/model", download=download) == tmp_path
    assert asked == {"owner/model": WANTED}
    assert not any(pattern.endswith((".py", ".pkl", "*.*")) for pattern in WANTED)


@pytest.mark.parametrize("error", [OSError("no network\nsecond line"), ValueError("no such name"), OSError()])
def test_what_cannot_be_fetched_is_said(error: Exception) -> None:
    def download(name: str, **rest: object) -> str:
        raise error

    with pytest.raises(CheckpointError, match="owner/model") as raised:
        checkpoint_folder("owner/model", download=download)
    assert "second line" not in str(raised.value)
