"""Read and write the tensors of a checkpoint folder. No pickle is executed."""

from pathlib import Path

import ml_dtypes  # noqa: F401  (teaches NumPy bfloat16, which safetensors then reads)
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from realm_jax.errors import CheckpointError, MissingExtra
from realm_jax.models.public_config import read_json

SAFETENSORS, SHARDS, TORCH = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"


def read_tensors(folder: Path) -> dict[str, np.ndarray]:
    """Read all tensors of a folder under the names they have there.

    Args:
      folder: holds `model.safetensors`, its shards with `model.safetensors.index.json`, or
        `pytorch_model.bin`, looked for in this order.

    Raises:
      CheckpointError: there is no such file, or it is broken.
      MissingExtra: there is a `pytorch_model.bin` only, and torch is not installed.
    """
    if (folder / SAFETENSORS).exists():
        return _read_safetensors(folder / SAFETENSORS)
    if (folder / SHARDS).exists():
        return _read_shards(folder)
    if (folder / TORCH).exists():
        return _read_torch(folder / TORCH)
    raise CheckpointError(
        f"a checkpoint folder must hold {SAFETENSORS}, {SHARDS} or {TORCH}",
        got=f"{folder} without one",
        remedy="Check the path, or download the folder again.",
    )


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write a safetensors file that PyTorch programs read too; who may read it is as for any new file."""
    path.touch()
    mode = path.stat().st_mode
    save_file(
        {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, path, {"format": "pt"}
    )
    path.chmod(mode)  # the library's file is its owner's alone


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:
        raise CheckpointError(
            f"{path} must be a whole safetensors file", got=str(error), remedy="Download it again."
        ) from error


def _read_shards(folder: Path) -> dict[str, np.ndarray]:
    listed = read_json(folder / SHARDS).get("weight_map")
    if not isinstance(listed, dict):
        raise CheckpointError(
            f"{SHARDS} must hold a weight_map of tensors to files",
            got=type(listed).__name__,
            remedy="Download the folder again.",
        )
    tensors: dict[str, np.ndarray] = {}
    for shard in sorted({str(file) for file in listed.values()}):
        if Path(shard).name != shard:
            raise CheckpointError(
                "shards must lie in the folder itself", got=shard, remedy="Do not use this file."
            )
        tensors |= _read_safetensors(folder / shard)
    absent = sorted(set(listed) - set(tensors))
    if absent:
        raise CheckpointError(
            f"the shards must hold every tensor of {SHARDS}",
            got=f"{', '.join(absent)} missing",
            remedy="Download the folder again.",
        )
    return tensors


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtra(
            f"reading {path.name} needs PyTorch",
            got="no package torch",
            remedy="Install torch, or save the model as safetensors.",
        ) from error
    # weights_only admits tensors and nothing that runs; never turn it off.
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises RuntimeError, EOFError, UnpicklingError, ... for broken files
        raise CheckpointError(
            f"{path} must hold tensors only",
            got=f"{type(error).__name__}: {error}",
            remedy="Do not use this file.",
        ) from error
    return {name: _torch_array(tensor) for name, tensor in state.items()}


def _torch_array(tensor: "object") -> np.ndarray:
    """Turn a torch tensor into NumPy; bfloat16, which torch cannot hand over, becomes float32."""
    dense = tensor.detach()  # type: ignore[attr-defined]
    return (dense.float() if str(dense.dtype) == "torch.bfloat16" else dense).numpy()
