"""Weights files: safetensors, shards, and PyTorch's format, which may not run code."""

import importlib.util
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from realm_jax.errors import CheckpointError, MissingExtra
from realm_jax.models.weights_file import read_tensors, write_tensors

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([1, 2], np.int64)}


def test_safetensors_there_and_back(tmp_path: Path) -> None:
    half = {"half": np.arange(4).astype(ml_dtypes.bfloat16), "turned": TENSORS["a.weight"].T}
    write_tensors(tmp_path / "model.safetensors", TENSORS | half)
    got = read_tensors(tmp_path)
    assert got["half"].dtype == ml_dtypes.bfloat16
    for name, tensor in (TENSORS | half).items():
        np.testing.assert_array_equal(got[name], tensor)


def test_shards_are_put_together(tmp_path: Path) -> None:
    files = {"a.weight": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name, file in files.items():
        write_tensors(tmp_path / file, {name: TENSORS[name]})
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert sorted(read_tensors(tmp_path)) == sorted(TENSORS)
    index.write_text(json.dumps({"weight_map": files | {"c": files["b"]}}))
    with pytest.raises(CheckpointError, match="c missing"):
        read_tensors(tmp_path)
    index.write_text(json.dumps({"weight_map": {"a.weight": "../elsewhere.safetensors"}}))
    with pytest.raises(CheckpointError, match="in the folder itself"):
        read_tensors(tmp_path)
    for listed in ({}, {"weight_map": ["a.weight"]}):
        index.write_text(json.dumps(listed))
        with pytest.raises(CheckpointError, match="must hold a weight_map"):
            read_tensors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"rubbish", b"\x10\0\0\0\0\0\0\0{}", pickle.dumps({"a": 1})])
def test_broken_safetensors_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match="whole safetensors"):
        read_tensors(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="must hold model.safetensors"):
        read_tensors(tmp_path)


def test_torch_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match="Install torch"):
        read_tensors(tmp_path)


class Call:
    def __reduce__(self) -> Any:
        return os.system, ("touch MARKER",)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
class TestTorch:
    def test_tensors_are_read(self, tmp_path: Path) -> None:
        import torch

        state = {name: torch.from_numpy(tensor) for name, tensor in TENSORS.items()}
        state["half"] = torch.arange(4).to(torch.bfloat16)
        torch.save(state, tmp_path / "pytorch_model.bin")
        got = read_tensors(tmp_path)
        for name, tensor in TENSORS.items():
            np.testing.assert_array_equal(got[name], tensor)
        np.testing.assert_array_equal(got["half"], np.arange(4, dtype=np.float32))

    @pytest.mark.parametrize("zipped", [True, False])
    def test_code_is_not_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool) -> None:
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "pytorch_model.bin"
        payload = pickle.dumps({"a": Call()}, protocol=2)
        if zipped:
            with zipfile.ZipFile(path, "w") as archive:
                archive.writestr("archive/data.pkl", payload)
                archive.writestr("archive/version", "3\n")
        else:
            path.write_bytes(payload)
        with pytest.raises(CheckpointError, match="tensors only"):
            read_tensors(tmp_path)
        assert not (tmp_path / "MARKER").exists()


def test_who_may_read_the_file_is_as_for_any_new_one(tmp_path: Path) -> None:
    write_tensors(tmp_path / "model.safetensors", TENSORS)
    (tmp_path / "plain").touch()
    assert (tmp_path / "model.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
