"""Start the parts of a model from an imported checkpoint that may hold other parts."""

from typing import Any

from realm_jax.errors import CheckpointError
from realm_jax.ops.trees import first_difference
from realm_jax.types import Params

# Where a part that the checkpoint lacks takes its BERT from, first found first.
DONORS = {
    "embedder": ("query_embedder", "block_embedder", "encoder", "reader"),
    "query_embedder": ("embedder", "block_embedder", "encoder", "reader"),
    "block_embedder": ("embedder", "query_embedder", "encoder", "reader"),
    "encoder": ("reader", "embedder", "block_embedder", "query_embedder"),
    "reader": ("encoder", "embedder", "block_embedder", "query_embedder"),
}


def warm_start(params: Params, imported: dict[str, Any]) -> tuple[Params, list[str]]:
    """Replace fresh parameters by imported ones, module by module.

    A part takes its modules (its BERT, its pooler, ...) from the part of the same name, or else from the
    first of `DONORS`; a head that the donor lacks, or has in another size, stays fresh.

    Args:
      params: fresh parameters by part, as `Models.init` makes them.
      imported: `Pretrained.params`.

    Returns:
      The parameters, and the modules that stayed fresh, as "part/module".

    Raises:
      CheckpointError: a BERT of another size, or there is nothing to start from.
    """
    started: dict[str, Any] = {}
    fresh: list[str] = []
    for part, modules in params.items():
        donor = next((name for name in (part, *DONORS[part]) if name in imported), None)
        if donor is None:
            raise CheckpointError(
                "a warm start needs an imported part",
                got=", ".join(imported) or "none",
                remedy="Import a BERT.",
            )
        given = imported[donor]
        differences = {name: first_difference(given.get(name, {}), own) for name, own in modules.items()}
        fits = {name for name, difference in differences.items() if difference is None}
        if (difference := differences["bert"]) is not None:
            name, found, needed = difference
            raise CheckpointError(
                f"the BERT of {part} must have the size of the imported one",
                got=f"{name}: {found} imported for {needed}",
                remedy="Take the model's config, and the vocabulary, from the import.",
            )
        started[part] = {
            name: given[name] if name in fits else fresh_one for name, fresh_one in modules.items()
        }
        fresh += [f"{part}/{name}" for name in modules if name not in fits]
    return started, fresh
