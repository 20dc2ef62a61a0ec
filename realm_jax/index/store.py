"""Versions of an index on disk: written aside, complete when renamed into place."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np

from realm_jax.errors import IndexFault
from realm_jax.index.engines import ENGINES
from realm_jax.index.manifest import IndexManifest
from realm_jax.index.protocol import Index

MANIFEST = "manifest.json"
EMBEDDINGS = "embeddings.npy"
ASIDE = ".writing-"


def publish(root: Path, embeddings: np.ndarray, index: Index, manifest: IndexManifest) -> Path:
    """Write a version; readers see all of it or nothing.

    Args:
      root: folder of the versions; made if missing.
      embeddings: float32 `[N, D]`.
      index: built from them.
      manifest: written last.

    Returns:
      The folder of the version. A version that is there already is replaced.
    """
    root.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=ASIDE, dir=root))
    try:
        np.save(aside / EMBEDDINGS, np.asarray(embeddings, np.float32))
        ENGINES[manifest.engine].save(index, aside)
        (aside / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        target = version_folder(root, manifest.version)
        if target.exists():
            shutil.rmtree(target)
        os.rename(aside, target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return target


def open_version(root: Path, version: int, *, corpus_hash: str) -> tuple[Index, np.ndarray, IndexManifest]:
    """Open a version.

    Args:
      root: folder of the versions.
      version: training step of its parameters.
      corpus_hash: content hash of the corpus it will be used with.

    Returns:
      The index, its embeddings float32 `[N, D]` (memory-mapped), and its manifest.

    Raises:
      IndexFault: it is missing, incomplete, or of another corpus.
    """
    folder = version_folder(root, version)
    if not (folder / MANIFEST).is_file():
        raise IndexFault(
            f"version {version} must be in {root}",
            got=f"versions {versions(root)}",
            remedy="Build the index again.",
        )
    manifest = IndexManifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
    if manifest.corpus_hash != corpus_hash:
        raise IndexFault(
            "an index is used with the corpus it was built from",
            got=f"corpus {corpus_hash[:12]} for an index of {manifest.corpus_hash[:12]}",
            remedy="Give the corpus of the run, or build the index again.",
        )
    embeddings = np.load(folder / EMBEDDINGS, mmap_mode="r")
    if embeddings.shape != (manifest.count, manifest.dimension):
        raise IndexFault(
            f"{EMBEDDINGS} must have the shape its manifest says",
            got=f"{embeddings.shape} for {(manifest.count, manifest.dimension)}",
            remedy="Build the index again.",
        )
    return ENGINES[manifest.engine].load(embeddings, folder), embeddings, manifest


def versions(root: Path) -> list[int]:
    """List the complete versions, oldest first."""
    return sorted(int(path.parent.name[1:]) for path in root.glob(f"v*/{MANIFEST}"))


def prune(root: Path, *, keep: set[int]) -> None:
    """Delete the versions that are not to be kept, and what a crash left half-written."""
    for version in versions(root):
        if version not in keep:
            shutil.rmtree(version_folder(root, version))
    for leftover in root.glob(f"{ASIDE}*"):
        shutil.rmtree(leftover)


def version_folder(root: Path, version: int) -> Path:
    """Name the folder of a version."""
    return root / f"v{version:08d}"
