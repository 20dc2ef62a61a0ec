"""Versions of an index on disk: written aside, complete when renamed into place.

One process of a run publishes into its folder; others may read from it meanwhile, and an evaluation may put a
version of its own beside. What another process is writing is let be, on this machine or on another.
"""

import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from realm_jax.errors import IndexFault
from realm_jax.hosts.layout import own_mesh
from realm_jax.index.engines import ENGINES
from realm_jax.index.manifest import IndexManifest, check_recall
from realm_jax.index.protocol import Index, Storage
from realm_jax.index.split import PROCESSES, split_index

MANIFEST = "manifest.json"
EMBEDDINGS = "embeddings.npy"
ASIDE = ".writing-"
PARTS = "parts-"
REPLACED = ".replaced-"
ABANDONED_SECONDS = 24 * 3600.0
_VERSION = re.compile(rf"(?:{re.escape(REPLACED)})?v(\d{{8,}})")


def publish(root: Path, embeddings: np.ndarray, index: Index, manifest: IndexManifest) -> Path:
    """Write a version; see `place_version`.

    Args:
      root: folder of the versions.
      embeddings: float32 `[N, D]`.
      index: built from them.
      manifest: written last.

    Returns:
      The folder of the version.
    """

    def write(folder: Path) -> None:
        np.save(folder / EMBEDDINGS, np.asarray(embeddings, np.float32))
        ENGINES[manifest.engine].save(index, folder)
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")

    return place_version(root, manifest.version, write)


def place_version(root: Path, version: int, write: Callable[[Path], None]) -> Path:
    """Put a version in its place; readers see all of it or nothing, whenever this is cut short.

    Args:
      root: folder of the versions; made if missing. What an earlier crash left in it is deleted.
      version: training step of its parameters.
      write: fills an empty folder with its files.

    Returns:
      The folder of the version. A version that is there already is replaced.
    """
    root.mkdir(parents=True, exist_ok=True)
    tidy(root)
    aside = root / f"{ASIDE}{os.getpid()}-{uuid.uuid4().hex}@{socket.gethostname()}"
    aside.mkdir()
    try:
        write(aside)
        return put_in_place(aside, version)
    except BaseException:
        tidy(root)
        raise


def put_in_place(aside: Path, version: int) -> Path:
    """Give a version that was written aside its name; returns its folder."""
    root = aside.parent
    target = version_folder(root, version)
    old = _replaced(target)
    _flush(aside)
    if target.exists():  # stays readable under its other name until the new one is in place
        target.rename(old)
    aside.rename(target)
    _flush(root)
    shutil.rmtree(old, ignore_errors=True)
    return target


def open_version(
    root: Path, version: int, *, corpus_hash: str, recall_floor: float = 0.0, mesh: Mesh | None = None
) -> tuple[Index, np.ndarray, IndexManifest]:
    """Open a version.

    Args:
      root: folder of the versions.
      version: training step of its parameters.
      corpus_hash: content hash of the corpus it will be used with.
      recall_floor: recall below which it is refused, as measured when it was built.
      mesh: devices an engine on the device is split over; None: the default device. Several processes split
        any engine, each with its share of the rows.

    Returns:
      The index, its embeddings float32 `[N, D]` (memory-mapped), and its manifest.

    Raises:
      IndexFault: it is missing, damaged, of an unknown engine, or of another corpus.
      RecallError: it finds too little.
    """
    folder, manifest = _find(root, version)
    if manifest.corpus_hash != corpus_hash:
        raise IndexFault(
            "an index is used with the corpus it was built from",
            got=f"corpus {corpus_hash[:12]} for an index of {manifest.corpus_hash[:12]}",
            remedy="Give the corpus of the run, or build the index again.",
        )
    if manifest.engine not in ENGINES:
        raise IndexFault(
            f"an index is of one of the engines {', '.join(ENGINES)}",
            got=manifest.engine,
            remedy="Build the index again, or use the version of this package that wrote it.",
        )
    check_recall(manifest.recall, k=manifest.recall_k, floor=recall_floor, engine=manifest.engine)
    embeddings = _map_embeddings(folder / EMBEDDINGS, shape=(manifest.count, manifest.dimension))
    storage = Storage(own_mesh(mesh), manifest.settings.get("storage", "float32"))
    engine = ENGINES[manifest.engine]
    if jax.process_count() > 1:
        index: Index = split_index(embeddings, partial(engine.build, storage=storage))
    elif PROCESSES in manifest.settings:  # what several have made has no files of the whole engine
        index = engine.build(embeddings, storage)
    else:
        index = engine.load(embeddings, folder, storage)
    return index, embeddings, manifest


def read_manifest(root: Path, version: int) -> IndexManifest:
    """Read the manifest of a version.

    Raises:
      IndexFault: the version is missing or its manifest cannot be read.
    """
    return _find(root, version)[1]


def map_embeddings(root: Path, manifest: IndexManifest) -> np.ndarray:
    """Open the embeddings of a version that was just published: float32 `[N, D]`, memory-mapped."""
    path = version_folder(root, manifest.version) / EMBEDDINGS
    return _map_embeddings(path, shape=(manifest.count, manifest.dimension))


def versions(root: Path) -> list[int]:
    """List the complete versions, oldest first."""
    names = (_VERSION.fullmatch(path.parent.name) for path in root.glob(f"*/{MANIFEST}"))
    return sorted({int(name[1]) for name in names if name})


def prune(root: Path, *, keep: set[int]) -> None:
    """Delete versions that nothing needs any more.

    Args:
      root: folder of the versions.
      keep: versions that stay. Newer ones than all of these stay too: a refresh in flight may just have
        published one.
    """
    newest = max(keep, default=None)
    for version in versions(root):
        if version not in keep and (newest is None or version < newest):
            target = version_folder(root, version)
            for folder in (target, _replaced(target)):
                if folder.exists():
                    _delete(folder)


def version_folder(root: Path, version: int) -> Path:
    """Name the folder of a version."""
    return root / f"v{version:08d}"


def _delete(folder: Path) -> None:
    """Delete a version at once for its readers: it loses its name first."""
    nameless = folder.with_name(ASIDE + folder.name)
    shutil.rmtree(nameless, ignore_errors=True)
    folder.rename(nameless)
    shutil.rmtree(nameless, ignore_errors=True)


def _find(root: Path, version: int) -> tuple[Path, IndexManifest]:
    """Find the folder of a version, under its other name where its replacement was cut short."""
    target = version_folder(root, version)
    folder = target if target.exists() else _replaced(target)
    if not (folder / MANIFEST).is_file():
        raise IndexFault(
            f"version {version} must be in {root}",
            got=f"versions {versions(root)}",
            remedy="Build the index again.",
        )
    return folder, IndexManifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))


def _replaced(target: Path) -> Path:
    return target.with_name(REPLACED + target.name)


def _is_being_written(folder: Path) -> bool:
    """Say whether another process still writes a folder, such as a trainer that is evaluated meanwhile.

    Of this machine's processes it is known whether they live; what others write, alone or several together,
    counts as abandoned when nothing in it has changed for `ABANDONED_SECONDS`.
    """
    writer = re.fullmatch(rf"{re.escape(ASIDE)}(?:(\d+)-[^@]*@(.*)|{re.escape(PARTS)}.*)", folder.name)
    if writer is None:
        return False
    if writer[2] != socket.gethostname():
        try:
            changed = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
        except FileNotFoundError:  # its writer has just finished with it
            return True
        return time.time() - changed < ABANDONED_SECONDS
    if int(writer[1]) == os.getpid():
        return False
    try:
        os.kill(int(writer[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def tidy(root: Path) -> None:
    """Undo what a publication that was cut short has left; what another process still writes stays."""
    for leftover in root.glob(f"{ASIDE}*"):
        if not _is_being_written(leftover):
            shutil.rmtree(leftover, ignore_errors=True)
    for old in root.glob(f"{REPLACED}*"):
        target = old.with_name(old.name.removeprefix(REPLACED))
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(target)


def _flush(folder: Path) -> None:
    """Write a folder and the files in it through to the disk, so that a power cut keeps their order."""
    for path in (*(p for p in folder.iterdir() if p.is_file()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _map_embeddings(path: Path, *, shape: tuple[int, int]) -> np.ndarray:
    try:
        embeddings = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise IndexFault(
            f"a version holds its embeddings in {EMBEDDINGS}",
            got=f"{type(error).__name__}: {error}",
            remedy="Build the index again.",
        ) from error
    if embeddings.shape != shape or embeddings.dtype != np.float32:
        raise IndexFault(
            f"{EMBEDDINGS} is float32 of the shape its manifest says",
            got=f"{embeddings.dtype} {embeddings.shape} for {shape}",
            remedy="Build the index again.",
        )
    return embeddings
