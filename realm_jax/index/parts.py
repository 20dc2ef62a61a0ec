"""A version of an index written by several processes: each writes its rows, the first puts them together.

All see one folder, on a file system that need not know of writes into the same file.
"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from realm_jax.index.manifest import IndexManifest
from realm_jax.index.split import RowShare
from realm_jax.index.store import ASIDE, EMBEDDINGS, MANIFEST, PARTS, put_in_place, tidy, version_folder

ROWS_AT_ONCE = 1 << 16


def prepare_parts(root: Path, version: int) -> None:
    """Make the folder of the parts; what an earlier crash left is deleted. One process does it.

    A folder of versions is written by one run at a time, so that all parts in it are of an earlier one.
    """
    root.mkdir(parents=True, exist_ok=True)
    tidy(root)
    for earlier in root.glob(f"{ASIDE}{PARTS}*"):
        shutil.rmtree(earlier)
    _aside(root, version).mkdir()


def write_part(root: Path, version: int, process: int, rows: np.ndarray) -> None:
    """Write the rows of a process, float32 `[n, D]`, through to the disk."""
    with _part(root, version, process).open("wb") as out:
        np.save(out, rows)
        out.flush()
        os.fsync(out.fileno())


def read_rows(root: Path, version: int, shares: Sequence[RowShare], numbers: np.ndarray) -> np.ndarray:
    """Read some rows of all parts.

    Args:
      root: folder of the versions.
      version: of the parts.
      shares: which rows the part of each process holds.
      numbers: int `[Q]`, ascending.

    Returns:
      float32 `[Q, D]`.
    """
    found = []
    for process, share in enumerate(shares):
        here = numbers[(numbers >= share.first) & (numbers < share.stop)]
        if len(here):
            found.append(_mapped(root, version, process)[here - share.first])
    return np.concatenate(found)


def publish_parts(root: Path, shares: Sequence[RowShare], manifest: IndexManifest) -> None:
    """Put the parts together and publish them; one process does it, when all parts are written."""
    aside = _aside(root, manifest.version)
    header = {"descr": "<f4", "fortran_order": False, "shape": (manifest.count, manifest.dimension)}
    with (aside / EMBEDDINGS).open(
        "wb"
    ) as out:  # from its beginning to its end, as a mounted bucket wants it
        np.lib.format.write_array_header_1_0(out, header)
        for process, share in enumerate(shares):
            if share.stop > share.first:
                part = _mapped(root, manifest.version, process)
                for start in range(0, len(part), ROWS_AT_ONCE):
                    out.write(part[start : start + ROWS_AT_ONCE].astype("<f4").tobytes())
    for path in aside.glob("part-*.npy"):
        path.unlink()
    (aside / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    put_in_place(aside, manifest.version)


def _aside(root: Path, version: int) -> Path:
    return root / f"{ASIDE}{PARTS}{version_folder(root, version).name}"


def _part(root: Path, version: int, process: int) -> Path:
    return _aside(root, version) / f"part-{process:05d}.npy"


def _mapped(root: Path, version: int, process: int) -> np.ndarray:
    return np.load(_part(root, version, process), mmap_mode="r", allow_pickle=False)
