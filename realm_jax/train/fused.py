"""Retrieval inside the compiled step: queries embedded, blocks found, chosen, and their tokens gathered.

The index and the tokens are arguments of the step, split over all devices. A new index version is another
argument of the same shape, so nothing is compiled again.
Letters: B batch, K candidates, D embedding, N blocks.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import struct
from jax.sharding import Mesh

from realm_jax.index.exact import QUERIES_PER_CALL, layout_of
from realm_jax.index.stored_blocks import stored_rows
from realm_jax.mesh import BATCH_AXES, split_over_all, split_rows
from realm_jax.models.build import Models
from realm_jax.ops.choice import choose_blocks, with_null_block
from realm_jax.ops.held_rows import take_rows
from realm_jax.ops.rows import single
from realm_jax.ops.topk import StoredRows, top_k_rows
from realm_jax.types import Array, Blocks, Candidates, MaskedBatch, Params, Rows, StoredBlocks


@struct.dataclass
class FusedStore:
    """What a fused step searches and gathers from; the rows of every array are split over all devices."""

    index: StoredRows  # embeddings of the blocks, of the version in use; laid out by `layout_of`
    blocks: StoredBlocks


def retrieve(
    params: Params,
    store: FusedStore,
    batch: MaskedBatch,
    *,
    models: Models,
    count: int,
    candidates: int,
    extra: int,
    null_block: bool,
    mesh: Mesh | None = None,
) -> tuple[MaskedBatch, Candidates]:
    """Find the candidates of masked texts, as `index.retriever.retrieve_candidates` does on the host.

    Args:
      params: all parts, by name; the current ones, so that the query embedder is never stale.
      store: index and tokens.
      batch: B masked texts; on a mesh B is a multiple of the devices of a batch.
      models: the models.
      count: N.
      candidates: K, the null block included.
      extra: blocks searched beyond K, to replace trivial retrievals and duplicates.
      null_block: put the null block first.
      mesh: the devices; None is the default device.

    Returns:
      The batch, and candidates `[B, K]` whose rows lie where those of the batch lie.

    Source: REALM, section 3.4.
    """
    queries = models.embed_query(params, single(batch.query))
    found = search(queries, store.index, count=count, k=candidates + extra, mesh=mesh)
    chosen = candidates_of(
        found, store.blocks, batch.origin, candidates=candidates, null_block=null_block, mesh=mesh
    )
    return batch, chosen


def search(queries: Array, index: StoredRows, *, count: int, k: int, mesh: Mesh | None = None) -> Array:
    """Find the k best blocks of each query, as `ExactIndex.search` does.

    Args:
      queries: float32 `[B, D]`.
      index: N rows and padding, laid out by `layout_of`.
      count: N.
      k: how many.
      mesh: the devices; None is the default device.

    Returns:
      int32 `[B, k]` block ids, best first, NO_BLOCK where there are fewer.
    """
    layout = layout_of(count, devices=1 if mesh is None else mesh.size)
    find = partial(top_k_rows, k=k, rows_per_block=layout.rows_per_block, mesh=mesh)

    def ids_of(queries: Array) -> Array:
        return find(queries, index, jnp.int32(count))[1]

    batch, dimension = queries.shape
    parts = -(-batch // QUERIES_PER_CALL)
    if parts == 1:
        return ids_of(queries)
    size = -(-batch // parts)
    padded = jnp.pad(queries, ((0, parts * size - batch), (0, 0)))
    return jax.lax.map(ids_of, padded.reshape(parts, size, dimension)).reshape(-1, k)[:batch]


def candidates_of(
    found: Array,
    blocks: StoredBlocks,
    origin: Array,
    *,
    candidates: int,
    null_block: bool,
    mesh: Mesh | None = None,
) -> Candidates:
    """Choose K candidates for each query and gather their tokens.

    Args:
      found: int32 `[B, n]` block ids, best first.
      blocks: the tokens.
      origin: int32 `[B]`, the block each query was cut from, or NO_BLOCK: never a candidate.
      candidates: K, the null block included.
      null_block: put the null block first.
      mesh: the devices; None is the default device.

    Returns:
      Candidates `[B, K]`, bit for bit those of `index.retriever.retrieve_candidates`.
    """
    asked = jnp.concatenate([found, origin[:, None]], axis=1)
    same = take_rows(blocks.duplicate_of, asked + 1, mesh=mesh)
    chosen = choose_blocks(found, same[:, :-1], same[:, -1], count=candidates - int(null_block))
    block_ids, is_null, is_valid = with_null_block(chosen, null_block=null_block)
    marks = (block_ids, is_null, is_valid)
    if mesh is not None:
        marks = jax.lax.with_sharding_constraint(marks, split_rows(mesh))
    tokens = take_rows(blocks.blocks, block_ids + 1, mesh=mesh, split=() if mesh is None else BATCH_AXES)
    return Candidates(block_ids=marks[0], blocks=tokens, is_null=marks[1], is_valid=marks[2])


def store_shapes(
    count: int,
    *,
    dimension: int,
    title_width: int,
    body_width: int,
    storage: str,
    tokens: str = "uint16",
    mesh: Mesh | None = None,
) -> FusedStore:
    """Describe the store of a corpus without one, to compile a step for devices that are not there.

    Args:
      count: N.
      dimension: D.
      title_width, body_width: tokens of a stored title and body.
      storage: dtype of the embeddings: float32, bfloat16 or int8.
      tokens: dtype of the token ids: uint16, or int32 above 65,536 wordpieces.
      mesh: the devices; None is the default device.

    Returns:
      The store's arrays as jax.ShapeDtypeStruct, laid out as the real ones.
    """
    devices = 1 if mesh is None else mesh.size
    placed = None if mesh is None else split_over_all(mesh)
    rows, total = stored_rows(count, devices=devices), layout_of(count, devices=devices).total

    def array(dtype: str, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.dtype(dtype), sharding=placed)

    def text(width: int) -> Rows:
        return Rows(ids=array(tokens, rows, width), length=array("uint16", rows))

    return FusedStore(
        index=StoredRows(
            values=array(storage, total, dimension),
            scales=array("float32", total) if storage == "int8" else None,
        ),
        blocks=StoredBlocks(
            blocks=Blocks(title=text(title_width), body=text(body_width)),
            duplicate_of=array("int32", rows),
        ),
    )
