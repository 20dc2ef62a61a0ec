"""How the arrays of a step lie on the mesh: one table of rules.

A rule names the logical axes of a parameter by the end of its path; `MESH_AXES` says which mesh axis each is
split over. The moments of the optimiser lie where their parameters do.
"""

import re
from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from realm_jax.errors import ConfigError
from realm_jax.types import Params

# The tensor axis follows Megatron: first product split by column, second by row, one sum for the two.
MESH_AXES = {"hidden": "fsdp", "vocabulary": "tensor", "heads": "tensor", "inner": "tensor"}

# (end of the path, logical axes); None: whole. The first that matches decides.
RULES: tuple[tuple[str, tuple[str | None, ...]], ...] = (
    (r"word/embedding", ("vocabulary", "hidden")),
    (r"(position|segment)/embedding", (None, "hidden")),
    (r"attention/(query|key|value)/kernel", ("hidden", "heads")),
    (r"attention/(query|key|value)/bias", ("heads",)),
    (r"attention/out/kernel", ("heads", "hidden")),
    (r"intermediate/kernel", ("hidden", "inner")),
    (r"intermediate/bias", ("inner",)),
    (r"output/kernel", ("inner", "hidden")),
    (r"(pooler|projection|transform|start|end)/kernel", ("hidden", None)),
    (r"score/kernel", (None, None)),
    (r"word_bias", ("vocabulary",)),
    (r"(out|output|pooler|projection|transform|start|end|score)/bias", (None,)),
    (r"\w*norm/(scale|bias)", (None,)),
)


def logical_axes(path: str) -> tuple[str | None, ...]:
    """Name the axes of a parameter.

    Args:
      path: its path, joined by slashes.

    Raises:
      ConfigError: no rule matches.
    """
    for ending, axes in RULES:
        if re.search(rf"(^|/){ending}$", path):
            return axes
    raise ConfigError(
        "every parameter must have a rule in train/sharding.py",
        got=path,
        remedy="Add one: the logical name of each axis, or None.",
    )


def param_shardings(mesh: Mesh, shapes: Params, *, gathered: bool = False) -> Any:
    """Lay parameters out.

    Args:
      mesh: the mesh.
      shapes: parameters, or their shapes.
      gathered: as they are computed with: whole along `fsdp`.

    Returns:
      The same tree of NamedSharding. An axis that its mesh axis does not divide stays whole.
    """

    def place(path: tuple, leaf: Any) -> NamedSharding:
        axes = (MESH_AXES.get(name or "") for name in logical_axes(_name(path)))
        spec = [
            axis if axis and size % mesh.shape[axis] == 0 and not (gathered and axis == "fsdp") else None
            for axis, size in zip(axes, leaf.shape, strict=True)
        ]
        return NamedSharding(mesh, PartitionSpec(*spec))

    return jax.tree_util.tree_map_with_path(place, shapes)


def state_shardings(mesh: Mesh, shapes: Any) -> Any:
    """Lay a training state out.

    Args:
      mesh: the mesh.
      shapes: a `TrainState`, or its shapes; scalars and keys are copied to every device.

    Returns:
      The same tree of NamedSharding.
    """

    def place(path: tuple, leaf: Any) -> Any:
        if leaf.ndim == 0 or not isinstance(path[-1], jax.tree_util.DictKey):
            return NamedSharding(mesh, PartitionSpec())
        return param_shardings(mesh, {_name(path): leaf})[_name(path)]

    return jax.tree_util.tree_map_with_path(place, shapes)


def make_sharded(make: Callable[..., Any], *arguments: Any, mesh: Mesh | None) -> Any:
    """Make parameters, or a state, each device its own part; without a mesh, call `make` as it is."""
    if mesh is None:
        return make(*arguments)
    placed = state_shardings(mesh, jax.eval_shape(make, *arguments))
    return jax.jit(make, out_shardings=placed)(*arguments)


def gather(params: Params, *, mesh: Mesh) -> Params:
    """Put parameters together along `fsdp` inside a step; their gradients are split again.

    Weights are a step's small arrays and activations its large ones: saying so keeps the compiler from
    moving the latter.
    """
    return jax.lax.with_sharding_constraint(params, param_shardings(mesh, params, gathered=True))


def _name(path: tuple) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")
