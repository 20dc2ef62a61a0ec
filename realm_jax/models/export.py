"""Export models to the public layout: `config.json`, `model.safetensors`, vocabulary."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.layout import architecture
from realm_jax.models.names import REPEATS
from realm_jax.models.pretrained import Source, Tensors
from realm_jax.models.public_config import public_config, write_pooling
from realm_jax.models.weights_file import SAFETENSORS, write_tensors
from realm_jax.text.normalisation import read_normalisation, write_normalisation
from realm_jax.text.tokenizer import copy_vocabulary
from realm_jax.types import Params


def export_pretrained(
    params: Params,
    config: dict[str, Any],
    folder: str | Path,
    *,
    source: Source,
    unread: Tensors | None = None,
    vocabulary: Path | None = None,
    complete: Callable[[Path], None] = lambda folder: None,
) -> None:
    """Write a public checkpoint.

    Args:
      params: parameters by part; parts for which the layout has no place are left out.
      config: the model's part of the run's config, as `Pretrained.config`.
      folder: to create; must not exist, or be empty.
      source: the layout: `Pretrained.source` of the checkpoint the model came from, or `source_for` a class.
      unread: tensors to add under their own names: `Pretrained.unread`; `block_emb` for RealmForOpenQA.
      vocabulary: a `vocab.txt` to write too, with how texts are normalised for it.
      complete: writes what else belongs into the folder, before that gets its name.

    Raises:
      ConfigError: a part of the layout is missing, or RealmForOpenQA lacks its block embeddings.
      CheckpointError: the folder is not empty, or two parts that share a tensor differ in it.
    """
    folder, extra = Path(folder), unread or {}
    if folder.exists() and any(folder.iterdir()):
        raise CheckpointError(
            "an export needs an empty folder", got=str(folder), remedy="Choose another one."
        )
    public = dict(source.config)
    if "block_emb" in extra:
        public["num_block_records"] = len(extra["block_emb"])
    elif "RealmForOpenQA" in public.get("architectures", []):
        raise ConfigError(
            "RealmForOpenQA carries the block embeddings",
            got="no block_emb",
            remedy="Add block_emb, the embeddings [N, D] of the index, to the unread tensors.",
        )
    tensors = to_tensors(params, source, num_layers=config["bert"]["num_layers"])
    if source.complete:
        tensors |= _zeros(source, config, have={*tensors, *extra})
    spelled = {source.spelled.get(name, name): tensor for name, tensor in tensors.items()}
    aside = folder.with_name(folder.name + ".partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    (aside / "config.json").write_text(json.dumps(public, indent=1))
    write_tensors(aside / SAFETENSORS, {**spelled, **extra})
    if source.sentence_encoder:
        width = config["bert"]["hidden_size"]
        write_pooling(aside, pooling=config["pooling"], normalize=config["normalize"], size=width)
    if vocabulary is not None:
        copy_vocabulary(vocabulary, aside)
        write_normalisation(aside, read_normalisation(vocabulary.parent))
    complete(aside)
    if folder.exists():
        folder.rmdir()
    aside.rename(folder)


def to_tensors(params: Params, source: Source, *, num_layers: int) -> Tensors:
    """Lay parameters, or anything of their structure such as gradients, out as tensors of a checkpoint.

    Args:
      params: by part.
      source: the layout.
      num_layers: Transformer layers.

    Returns:
      Tensors as the rules spell them, those that repeat another one included.

    Raises:
      ConfigError: a part is missing.
      CheckpointError: two parts that share a tensor differ in it.
    """
    absent = sorted(set(source.places) - set(params))
    if absent:
        raise ConfigError(
            f"this layout holds {', '.join(source.places)}",
            got=f"no {', '.join(absent)}",
            remedy="Add the part, or choose another layout.",
        )
    tensors: Tensors = {}
    for part, place in source.places.items():
        leaves = {path: np.asarray(leaf) for path, leaf in flatten_dict(params[part]).items()}
        for rule in place.rules(num_layers):
            tensor = rule.tensor(leaves.__getitem__)
            tensor = tensor.astype(source.dtypes.get(rule.name, tensor.dtype))
            if rule.name in tensors and not np.array_equal(tensors[rule.name], tensor):
                raise CheckpointError(
                    "parts that share a tensor of the file must be equal",
                    got=f"{part}, which differs in {rule.name}",
                    remedy="Export the parts one by one, each as a class of its own.",
                )
            tensors[rule.name] = tensor
    return tensors | {name: tensors[of] for name, of in source.repeats.items()}


def source_for(name: str, config: dict[str, Any]) -> Source:
    """Describe how a public class would hold a model trained here.

    Args:
      name: of the class, see `layout.architecture`.
      config: the model's part of the run's config.
    """
    kind = architecture(name, config)
    repeats = {
        place.root + repeat: place.root + of.format(base=place.base)
        for place in kind.places.values()
        if "words" in place.groups
        for repeat, of in REPEATS.items()
    }
    if name == "RealmScorer" and not config["two_towers"]:
        rules = kind.places["embedder"].rules(config["bert"]["num_layers"])
        repeats |= {f"query_{rule.name}": rule.name for rule in rules}
    return Source(
        config=public_config(config, architecture=name, family=kind.family),
        places=kind.places,
        repeats=repeats,
        sentence_encoder=name == "BertModel" and config["pooling"] != "pooler",
        complete=kind.family == "realm",
    )


def _zeros(source: Source, config: dict[str, Any], *, have: set[str]) -> Tensors:
    """Make the tensors that the REALM classes declare and never use, so that strict loading succeeds."""
    hidden, vocab = config["bert"]["hidden_size"], config["vocab_size"]
    shapes = {
        "{base}pooler.dense.weight": (hidden, hidden),
        "{base}pooler.dense.bias": (hidden,),
        "cls.predictions.bias": (vocab,),
        "cls.predictions.decoder.weight": (vocab, hidden),
        "cls.predictions.decoder.bias": (vocab,),
        "cls.predictions.transform.dense.weight": (hidden, hidden),
        "cls.predictions.transform.dense.bias": (hidden,),
        "cls.predictions.transform.LayerNorm.weight": (hidden,),
        "cls.predictions.transform.LayerNorm.bias": (hidden,),
    }
    roots = {place.root: place.base for place in source.places.values() if place.base == "realm."}
    if "query_embedder.cls.dense.weight" in source.repeats:
        roots["query_embedder."] = "realm."
    names = {
        root + name.format(base=base): shape for root, base in roots.items() for name, shape in shapes.items()
    }
    return {name: np.zeros(shape, np.float32) for name, shape in names.items() if name not in have}
