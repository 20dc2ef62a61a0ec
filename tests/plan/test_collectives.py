"""Collectives read off a program's text."""

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

from realm_jax.mesh import make_mesh
from realm_jax.plan.collectives import Collective, collectives_in

TEXT = """
  %all-reduce.3 = (f32[768]{0:T(1024)}, bf16[4,8]{1,0:T(8,128)(2,1)}) all-reduce(%a, %b), channel_id=1
  %all-gather-start.1 = (bf16[2,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%c), dimensions={0}
  %all-gather-done.1 = bf16[16,8]{1,0} all-gather-done(%all-gather-start.1)
  %cp = (u32[5]{0}, u32[5]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%d)
  %all-reduce.4 = pred[3]{0} all-reduce(%e), to_apply=%or
  %fusion.1 = f32[9]{0} fusion(%all-reduce.4), kind=kLoop
"""


def test_results_are_counted_and_operands_are_not():
    assert collectives_in(TEXT) == [
        Collective("all-reduce", 2, 768 * 4 + 32 * 2 + 3),
        Collective("all-gather", 1, 16 * 8 * 2),
        Collective("collective-permute", 1, 5 * 4),
    ]


def test_those_of_a_program():
    """A sum over eight devices and a gather of what each holds, [2, 3] float32 a device."""
    mesh = make_mesh(data=8, fsdp=1, tensor=1)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False)
    def program(held):
        return jax.lax.psum(held, "data"), jax.lax.all_gather(held, "data", tiled=True)

    text = program.lower(jax.ShapeDtypeStruct((16, 3), jnp.float32)).compile().as_text()
    assert collectives_in(text) == [
        Collective("all-gather", 1, 16 * 3 * 4),
        Collective("all-reduce", 1, 2 * 3 * 4),
    ]
