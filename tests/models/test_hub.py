"""A checkpoint is a folder here or a name on the hub."""

from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import snapshot_download

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

    (tmp_path / "model.safetensors").touch()
    assert checkpoint_folder("owner/model", download=download) == tmp_path
    assert asked == {"owner/model": WANTED}
    assert not any(pattern.endswith((".py", ".pkl", ".bin", "*.*")) for pattern in WANTED)


def test_torch_weights_are_fetched_where_there_are_no_others(tmp_path: Path) -> None:
    asked = []

    def download(name: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    assert checkpoint_folder("owner/model", download=download) == tmp_path
    assert asked == [WANTED, [*WANTED, "pytorch_model.bin"]]


class ProxyError(Exception):
    """As the library's HTTP client raises them: of no built-in kind."""


@pytest.mark.parametrize(
    "error",
    [OSError("no network\nsecond line"), ValueError("\nno such name"), OSError(), ProxyError("no way out")],
)
def test_what_cannot_be_fetched_is_said(error: Exception) -> None:
    def download(name: str, **rest: object) -> str:
        raise error

    with pytest.raises(CheckpointError, match="owner/model") as raised:
        checkpoint_folder("owner/model", download=download)
    assert "second line" not in str(raised.value)
    assert (str(error).strip().split("\n")[0] or "no reason given") in str(raised.value)


def test_without_a_network_the_library_gives_up_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Through the real library: it must not go on trying when nothing answers."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    download = partial(snapshot_download, cache_dir=tmp_path, etag_timeout=1)
    with pytest.raises(CheckpointError, match="owner/model.*copy the folder here"):
        checkpoint_folder("owner/model", download=download)
