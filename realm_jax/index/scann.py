"""The ScaNN engine: sublinear search on the host (Guo et al. 2020)."""

import json
import math
import os
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.errors import IndexFault, MissingExtra
from realm_jax.index.manifest import best_scores, recall_of, true_scores
from realm_jax.types import NO_BLOCK, Search

ASSETS = "scann_assets.pbtxt"  # ScaNN's list of its files
SETTINGS = "scann_settings.json"  # ours: how it is searched
PICKLE = "scann_docids.pkl"  # written by ScaNN for named rows, which are not used here
# Embeddings after a short ICT lie close together. With a code for two dimensions, as ScaNN's guide has it,
# scores tell them apart so badly that 600 candidates had to be rescored for a recall of 0.95. With one for
# each dimension 100 do, and a search is faster by half.
DIMENSIONS_PER_CODE = 1
CENTRES_FOR_PRODUCTS = 2.0  # what errors along a centre weigh; with 1 and 4 less was found
REORDER = 100  # candidates rescored exactly for few results, at most
RESCORED_A_RESULT = 3  # and for many: for want of a third up to 3% of 100 results were missed
BRUTE_FORCE_BELOW = 20_000  # blocks; under this a tree costs recall and saves nothing that can be felt
# How many leaves must be searched, and how many candidates rescored, depends on how the embeddings lie: of
# 57,126 after 1000 steps of ICT 32 of 478 leaves and 50 candidates, of tight clusters 1 and 30. So it is
# measured: the cheapest pair that finds TUNED_RECALL of the TUNED_K nearest of TUNED_SAMPLE rows with noise.
TUNED_REORDERS = (30, 50, 70, REORDER)
TUNED_RECALL, TUNED_K, TUNED_SAMPLE = 0.985, 10, 256
TUNED_NOISE = 0.3  # standard deviations of the embeddings: queries are near blocks, not blocks
RESCORED = 11  # rows scanned in the time of one rescored: 2.9 and 33 ns on two threads, 128 dimensions


@dataclass(frozen=True)
class ScannSettings:
    """How the tree is built and searched."""

    leaves: int  # 0: no tree, brute force
    leaves_to_search: int
    reorder: int  # candidates rescored exactly


def settings_for(count: int) -> ScannSettings:
    """Choose settings from the number of blocks, in this one place.

    About sqrt(N) leaves balance the two costs of a search, finding the leaves and scanning them; twice as
    many hold fewer blocks that are scanned in vain; four times as many were slower at equal recall. The
    leaves that hold the nearest blocks grow more slowly in number than the leaves do, hence the square root.
    It is where `build_scann` looks for fewer, or for more.

    Args:
      count: N.
    """
    if count < BRUTE_FORCE_BELOW:
        return ScannSettings(leaves=0, leaves_to_search=0, reorder=0)
    leaves = round(2 * math.sqrt(count))
    return ScannSettings(leaves=leaves, leaves_to_search=round(2 * count**0.25), reorder=REORDER)


def leaves_for(settings: ScannSettings, count: int, k: int) -> int | None:
    """Say how many leaves are searched for k results.

    What was measured is for TUNED_K. Of 57,126 embeddings after ICT two to three times as many leaves give
    the same recall for 100 results, five times as many for 1000: about the cube root of k. A choice of ten
    times k must be there too.

    Args:
      settings: of the index.
      count: N.
      k: results, for instance a beam of thousands.

    Returns:
      A number of leaves; None without a tree.
    """
    if settings.leaves == 0:
        return None
    more = max(1.0, (k / TUNED_K) ** (1 / 3))
    least = max(settings.leaves_to_search * more, 10 * k * settings.leaves / count)
    return min(settings.leaves, math.ceil(least))


class ScannIndex:
    """Search with ScaNN; made by `build_scann` or `load_scann`.

    Args:
      searcher: ScaNN's searcher.
      count: N.
      settings: how it was built, and how it is searched.
    """

    def __init__(self, searcher: Any, count: int, settings: ScannSettings):
        self._searcher, self._count, self.settings = searcher, count, settings

    def __len__(self) -> int:
        return self._count

    def search(self, query_embeddings: np.ndarray, k: int) -> Search:
        """Find the k best blocks of each query; see `Index.search`."""
        queries = np.ascontiguousarray(query_embeddings, np.float32)
        scores = np.full((len(queries), k), -np.inf, np.float32)
        block_ids = np.full((len(queries), k), NO_BLOCK, np.int32)
        most = min(k, self._count)
        if not most or not len(queries):  # ScaNN refuses both
            return Search(scores=scores, block_ids=block_ids)
        ids, found = self._searcher.search_batched_parallel(
            queries,
            final_num_neighbors=most,
            pre_reorder_num_neighbors=max(RESCORED_A_RESULT * most, self.settings.reorder),
            leaves_to_search=leaves_for(self.settings, self._count, most),
            batch_size=-(-len(queries) // (os.cpu_count() or 1)),  # of a thread
        )
        real = ~np.isnan(found)  # a leaf short of blocks gives fewer results, marked by NaN
        if not (found[:, 1:] < found[:, :-1]).all():  # ties or NaN; sorting takes a third of a search
            order = np.lexsort((ids, -np.where(real, found, -np.inf)), axis=1)
            ids, found, real = (np.take_along_axis(a, order, axis=1) for a in (ids, found, real))
        width = found.shape[1]
        scores[:, :width] = np.where(real, found, -np.inf)
        block_ids[:, :width] = np.where(real, ids.astype(np.int64), NO_BLOCK)
        return Search(scores=scores, block_ids=block_ids)

    def save(self, folder: Path) -> None:
        """Write the built searcher to an existing folder."""
        self._searcher.serialize(str(folder), relative_path=True)
        (folder / SETTINGS).write_text(json.dumps(asdict(self.settings)) + "\n", encoding="utf-8")


def build_scann(embeddings: np.ndarray) -> ScannIndex:
    """Build a ScaNN index.

    Args:
      embeddings: float32 `[N, D]`.

    Raises:
      MissingExtra: ScaNN has no wheel for this platform.
    """
    settings = settings_for(len(embeddings))
    rows = np.ascontiguousarray(embeddings, np.float32)
    builder = _scann().builder(rows, min(10, len(rows)), "dot_product")
    if settings.leaves == 0:
        return ScannIndex(builder.score_brute_force().build(), len(rows), settings)
    sample = min(len(rows), 250_000)
    # ScaNN draws random centres with another seed each time, and rearranges small leaves at random; k-means++
    # without that gives the same tree for the same embeddings, which a reproducible run needs, and a better
    # one. Leaves are chosen by inner product, so their centres are found by direction, then scaled for it:
    # the mean of two clusters would be shorter than either, and be chosen too late.
    builder = builder.tree(
        settings.leaves,
        settings.leaves_to_search,
        training_sample_size=sample,
        random_init=False,
        min_partition_size=1,
        spherical=True,
        avq=CENTRES_FOR_PRODUCTS,
    )
    builder = builder.score_ah(DIMENSIONS_PER_CODE, anisotropic_quantization_threshold=0.2)
    builder = builder.reorder(settings.reorder)
    return tuned(ScannIndex(builder.build(), len(rows), settings), rows)


def tuned(index: ScannIndex, embeddings: np.ndarray) -> ScannIndex:
    """Search as few leaves and rescore as few candidates as find nearly all that rows with noise are near.

    Args:
      index: with a tree.
      embeddings: float32 `[N, D]`, what it was built from.

    Returns:
      The same searcher with the cheapest settings that find enough; with the most of both where none do.
    """
    rng = np.random.default_rng(0)
    queries = embeddings[np.sort(rng.choice(len(embeddings), TUNED_SAMPLE, replace=False))]
    noise = rng.standard_normal(queries.shape, dtype=np.float32)
    queries = queries + np.float32(TUNED_NOISE) * embeddings.std(dtype=np.float64).astype(np.float32) * noise
    kth = best_scores(embeddings, queries, k=TUNED_K)[:, -1:]

    def cost(settings: ScannSettings) -> float:
        return settings.leaves_to_search * len(index) / settings.leaves + RESCORED * settings.reorder

    tries = [
        replace(index.settings, leaves_to_search=leaves, reorder=reorder)
        for leaves in leaves_tried(index.settings)
        for reorder in TUNED_REORDERS
    ]
    for settings in sorted(tries, key=cost):
        tried = ScannIndex(index._searcher, len(index), settings)
        ids = tried.search(queries, TUNED_K).block_ids
        if recall_of(kth, true_scores(embeddings, queries, ids), ids) >= TUNED_RECALL:
            break
    return tried


def leaves_tried(settings: ScannSettings) -> list[int]:
    """List numbers of leaves, each 1.4 times the one before, up to four times what N suggests."""
    most = min(settings.leaves, 4 * settings.leaves_to_search)
    return sorted({most, *(round(2 ** (step / 2)) for step in range(int(2 * math.log2(most)) + 1))})


def load_scann(folder: Path, count: int) -> ScannIndex:
    """Load an index that `ScannIndex.save` wrote.

    Args:
      folder: where it was written.
      count: N.

    Raises:
      IndexFault: files are missing, or there is one that ScaNN would run as a program.
      MissingExtra: ScaNN has no wheel for this platform.
    """
    if not (folder / ASSETS).is_file():
        raise IndexFault(
            f"a saved ScaNN index holds {ASSETS}", got=f"none in {folder}", remedy="Build the index again."
        )
    if (folder / PICKLE).exists():
        raise IndexFault(
            "a published index holds no pickle: loading one can run any program",
            got=str(folder / PICKLE),
            remedy="This project never writes that file: find out where the folder comes from.",
        )
    try:
        searcher = _scann().load_searcher(str(folder))
    except RuntimeError as error:
        raise IndexFault(
            "a saved ScaNN index is whole", got=f"{error} in {folder}", remedy="Build the index again."
        ) from error
    return ScannIndex(searcher, count, _read_settings(folder, count))


def _read_settings(folder: Path, count: int) -> ScannSettings:
    """Read how an index is searched; one written before that was measured has what N suggests."""
    path = folder / SETTINGS
    if not path.is_file():
        return settings_for(count)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        settings = ScannSettings(**values)
        if not all(isinstance(value, int) and value >= 0 for value in values.values()):
            raise ValueError(f"settings {values}")
        return settings
    except (ValueError, TypeError) as error:
        raise IndexFault(
            f"{SETTINGS} holds the three numbers of ScannSettings",
            got=f"{error} in {folder}",
            remedy="Build the index again.",
        ) from error


def _scann() -> Any:
    try:
        from scann.scann_ops.py import scann_ops_pybind
    except ImportError as error:
        raise MissingExtra(
            "the engine `scann` needs the package scann, which exists for Linux only",
            got=f"{error} on {sys.platform}",
            remedy="Use --index.engine exact.",
        ) from error
    return scann_ops_pybind
