"""Load an oracle: its weights through the public importer, its arrays, and its tolerances."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realm_jax.models.export import to_tensors
from realm_jax.models.pretrained import Pretrained, import_pretrained, imported_models
from realm_jax.types import Params, Tokens
from tests.shared_data import shared_path

PRECISION = "highest"  # of matrix products; the oracles were computed in full float32


@dataclass
class Oracle:
    """One oracle, its model imported from a folder in the public layout."""

    pretrained: Pretrained
    arrays: dict[str, np.ndarray]
    about: dict[str, Any]

    @property
    def params(self) -> Params:
        return self.pretrained.params

    @property
    def models(self) -> Any:
        return imported_models(self.pretrained.config)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.arrays[name]

    def tokens(self, prefix: str) -> Tokens:
        """Read `<prefix>input_ids` and, where stored, its masks."""
        ids = self.arrays[f"{prefix}input_ids"]
        mask = self.arrays.get(f"{prefix}attention_mask", np.ones_like(ids))
        segments = self.arrays.get(f"{prefix}token_type_ids", np.zeros_like(ids))
        return Tokens(ids=ids, mask=mask.astype(bool), segments=segments)

    def check_gradients(self, gradients: Params, *, case: str = "", **others: np.ndarray) -> None:
        """Compare with every stored gradient `<case>grads/...`; `others` are those of inputs."""
        layers = self.pretrained.config["bert"]["num_layers"]
        source = self.pretrained.source
        params = {part: gradients.get(part, zeros(tree)) for part, tree in self.params.items()}
        got = {**to_tensors(params, source, num_layers=layers), **others}
        prefix = f"{case}grads/"
        stored = {name.removeprefix(prefix): b for name, b in self.arrays.items() if name.startswith(prefix)}
        assert stored
        largest = max(float(np.abs(b).max()) for b in stored.values())
        for name, b in stored.items():
            limit = 1e-4 * np.abs(b).max() + 1e-5 * largest
            worst = np.abs(np.asarray(got[name]) - b).max()
            assert worst <= limit, f"{name}: off by {worst:.3g}, allowed {limit:.3g}"


def zeros(tree: Params) -> Params:
    return jax.tree.map(np.zeros_like, tree)


def close(a: Any, b: np.ndarray, *, tolerance: float = 3e-5) -> None:
    """Compare within `tolerance` times the largest magnitude, where b is finite."""
    a, finite = np.asarray(a), np.isfinite(b)
    assert a.shape == b.shape
    assert np.array_equal(np.isfinite(a), finite)
    scale = np.abs(b[finite]).max(initial=0.0)
    worst = np.abs(a[finite] - b[finite]).max(initial=0.0)
    assert worst <= tolerance * scale, f"off by {worst:.3g}, allowed {tolerance * scale:.3g}"


def oracle_folder(name: str, folder: Path) -> Path:
    """Lay an oracle's weights out as a public checkpoint."""
    about = json.loads(shared_path("oracles", f"{name}.json").read_text())
    folder = folder / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(about["config"]))
    shutil.copy(shared_path("oracles", f"{name}.safetensors"), folder / "model.safetensors")
    if name == "open_qa":
        shutil.copy(shared_path("oracles", "open_qa.vocab.txt"), folder / "vocab.txt")
    return folder


def load_oracle(name: str, folder: Path) -> Oracle:
    """Import an oracle; `folder` is a temporary one."""
    about = json.loads(shared_path("oracles", f"{name}.json").read_text())
    with np.load(shared_path("oracles", f"{name}.npz")) as stored:
        arrays = dict(stored)
    return Oracle(import_pretrained(oracle_folder(name, folder)), arrays, about)
