"""Import public checkpoints: a folder with `config.json` and `model.safetensors`."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.bert import Bert
from realm_jax.models.build import Models, build_models
from realm_jax.models.layout import Place, Places, find_places
from realm_jax.models.names import REPEATS, UNREAD, modern
from realm_jax.models.public_config import model_config, read_json, read_pooling
from realm_jax.models.weights_file import read_tensors
from realm_jax.text.normalisation import TOKENIZER
from realm_jax.text.tokenizer import VOCABULARY, holds_wordpieces

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Source:
    """How a checkpoint is laid out.

    Attributes:
      config: the content of its `config.json`.
      places: where its parts stand.
      spelled: names in the file of tensors which the rules spell otherwise.
      repeats: tensors that repeat another one, and which; both as the rules spell them.
      dtypes: of the tensors that are not float32.
      sentence_encoder: pooling files stand beside it.
      complete: an export adds zeros for tensors which the public class declares and never uses.
    """

    config: dict[str, Any]
    places: Places
    spelled: dict[str, str] = dataclasses.field(default_factory=dict)
    repeats: dict[str, str] = dataclasses.field(default_factory=dict)
    dtypes: dict[str, str] = dataclasses.field(default_factory=dict)
    sentence_encoder: bool = False
    complete: bool = False


@dataclass(frozen=True)
class Pretrained:
    """An imported checkpoint.

    Attributes:
      params: float32 NumPy parameters of the parts it holds: some of `embedder`, `query_embedder`,
        `block_embedder`, `encoder`, `reader`.
      config: the model's part of a run's config, in plain JSON types; `embedding_size` 0 means no projection.
      vocabulary: its `vocab.txt`, or a `tokenizer.json` with wordpieces, or None.
      source: how it was laid out; an export needs it to give back the same names.
      unread: the tensors that no model here reads, under their names in the file; among them `block_emb`
        `[N, D]`, the block embeddings of an open-QA model.
    """

    params: dict[str, Any]
    config: dict[str, Any]
    vocabulary: Path | None
    source: Source
    unread: Tensors


def import_pretrained(
    folder: str | Path, *, pooling: str | None = None, normalize: bool | None = None
) -> Pretrained:
    """Read a public checkpoint: BERT, a sentence encoder, or a REALM model.

    What the folder holds is found from the names of its tensors: RealmEmbedder, RealmScorer (one tower or
    two), RealmKnowledgeAugEncoder, RealmReader, RealmForOpenQA, combinations of them under prefixes, and BERT
    with or without heads, prefixed or not, with old or new names of its LayerNorms. A plain BERT becomes an
    `embedder` without a projection and, where it has a masked-LM head, an `encoder` too.

    Args:
      folder: holds `config.json`, the weights, and if any `vocab.txt` and the files of a sentence encoder.
      pooling: of a plain BERT: `pooler`, `cls` or `mean`; None takes what the folder says, else the pooler,
        else cls.
      normalize: of a plain BERT: embeddings of length 1; None takes what the folder says, else False.

    Raises:
      CheckpointError: the folder is incomplete or of another kind; all tensors that are missing, not known or
        misshapen are listed in one error.
      ConfigError: a pooling was chosen for a REALM model.
    """
    folder = Path(folder)
    pooled = read_pooling(folder)
    weights = pooled[0] if pooled else folder
    public = read_json(weights / "config.json")
    said = public.get("model_type")
    if said not in (None, "bert", "realm"):
        raise CheckpointError("model_type must be bert or realm", got=said, remedy="Use another checkpoint.")
    tensors, spelled = _respell(read_tensors(weights))
    places, family = find_places(tensors)
    roots = {place.root for place in places.values()}
    config = model_config(public, family=said or family)
    if family == "bert":
        choice = _choose_pooling(places, pooled, pooling=pooling, normalize=normalize)
        places = {part: _without_pooler(place, choice["pooling"]) for part, place in places.items()}
        config |= {"embedding_size": 0, **choice}
    elif pooling is not None or normalize is not None:
        raise ConfigError(
            "a REALM embedder pools as it was trained",
            got=f"pooling {pooling}, normalize {normalize}",
            remedy="Leave both out.",
        )
    layers = config["bert"]["num_layers"]
    places, repeats = _one_tower(places, tensors, layers, keep_two=bool(public.get("two_towers", False)))
    config["two_towers"] = "query_embedder" in places
    params, used, problems = _read_parts(tensors, places, config)
    repeats |= _tied(tensors, places, problems)
    rest = {name: tensor for name, tensor in tensors.items() if name not in used and name not in repeats}
    problems["not known"] = [name for name in sorted(rest) if not UNREAD.fullmatch(_relative(name, roots))]
    _raise_if_any(problems, folder=folder)
    unread = {spelled.pop(name, name): tensor for name, tensor in rest.items()}
    return Pretrained(
        params=params,
        config=config,
        vocabulary=_vocabulary(folder, weights),
        source=Source(
            config=public,
            places=places,
            spelled=spelled,
            repeats=repeats,
            dtypes={name: str(tensors[name].dtype) for name in used if tensors[name].dtype != np.float32},
            sentence_encoder=pooled is not None,
        ),
        unread=unread,
    )


def imported_models(config: dict[str, Any]) -> Models:
    """Build the models of an imported config, for float32 compute.

    Args:
      config: as `Pretrained.config`.
    """
    settings = dict(config)
    bert = Bert(vocab_size=settings.pop("vocab_size"), **settings.pop("bert"))
    return build_models(bert=bert, **settings)


def _respell(stored: Tensors) -> tuple[Tensors, dict[str, str]]:
    """Spell all names as the rules do; the second result maps the rules' spelling to the file's."""
    tensors: Tensors = {}
    spelled: dict[str, str] = {}
    for name, tensor in stored.items():
        new = modern(name)
        # Of the two names of the words' bias, the rules know the one that is always there in memory.
        stem = new.removesuffix("cls.predictions.decoder.bias")
        if stem != new and f"{stem}cls.predictions.bias" not in stored:
            new = f"{stem}cls.predictions.bias"
        if new != name and new in stored:
            new = name  # both spellings at once: left as it is, and reported as not known
        tensors[new] = tensor
        if new != name:
            spelled[new] = name
    return tensors, spelled


def _choose_pooling(
    places: Places, pooled: tuple[Path, str, bool] | None, *, pooling: str | None, normalize: bool | None
) -> dict[str, Any]:
    """Settle how a plain BERT pools: what the caller says, else the folder, else what it has."""
    has_pooler = "pooler" in places["embedder"].groups
    said = pooled[1:] if pooled else ("pooler" if has_pooler else "cls", False)
    return {
        "pooling": said[0] if pooling is None else pooling,
        "normalize": said[1] if normalize is None else normalize,
    }


def _without_pooler(place: Place, pooling: str) -> Place:
    if pooling == "pooler" or "pooler" not in place.groups:
        return place
    return dataclasses.replace(place, groups=tuple(group for group in place.groups if group != "pooler"))


def _one_tower(
    places: Places, tensors: Tensors, num_layers: int, *, keep_two: bool
) -> tuple[Places, dict[str, str]]:
    """Take two towers for one, repeated, if they are equal throughout."""
    if "query_embedder" not in places or keep_two:
        return places, {}
    query, block = places["query_embedder"], places["block_embedder"]
    pairs = {
        one.name: other.name
        for one, other in zip(query.rules(num_layers), block.rules(num_layers), strict=True)
    }
    for one, other in pairs.items():
        if one not in tensors or other not in tensors or not np.array_equal(tensors[one], tensors[other]):
            return places, {}
    rest = {part: place for part, place in places.items() if not part.endswith("_embedder")}
    return {"embedder": block, **rest}, pairs


def _read_parts(
    tensors: Tensors, places: Places, config: dict[str, Any]
) -> tuple[dict[str, Any], set[str], dict[str, list[str]]]:
    """Read the parameters of every part; the last result lists what is missing and misshapen."""
    shapes = jax.eval_shape(imported_models(config).init, jax.random.key(0))
    params: dict[str, Any] = {}
    problems: dict[str, list[str]] = {"missing": [], "misshapen": []}
    used: set[str] = set()
    for part, place in places.items():
        expected = {path: leaf.shape for path, leaf in flatten_dict(shapes[part]).items()}
        leaves: dict[tuple[str, ...], np.ndarray] = {}
        for rule in place.rules(config["bert"]["num_layers"]):
            used.add(rule.name)
            shape = rule.shape(expected.__getitem__)
            if rule.name not in tensors:
                problems["missing"].append(rule.name)
            elif tensors[rule.name].shape != shape:
                found = list(tensors[rule.name].shape)
                problems["misshapen"].append(f"{rule.name} is {found} instead of {list(shape)}")
            else:
                leaves |= rule.leaves(tensors[rule.name].astype(np.float32))
        params[part] = unflatten_dict(leaves)
    return params, used & set(tensors), problems


def _tied(tensors: Tensors, places: Places, problems: Mapping[str, list[str]]) -> dict[str, str]:
    """Find the decoders that repeat the word embeddings; one that differs is a problem."""
    repeats = {}
    for place in places.values():
        if "words" not in place.groups:
            continue
        for name, of in REPEATS.items():
            name, of = place.root + name, place.root + of.format(base=place.base)
            if name in tensors:
                repeats[name] = of
                if of in tensors and not np.array_equal(tensors[name], tensors[of]):
                    problems["misshapen"].append(f"{name} differs from {of}, to which it must be tied")
    return repeats


def _relative(name: str, roots: Iterable[str]) -> str:
    """Cut the longest root off a name."""
    return name.removeprefix(max((root for root in roots if name.startswith(root)), key=len, default=""))


def _vocabulary(*folders: Path) -> Path | None:
    """Find the wordpieces: in a file of their own, or (newer) in the tokenizer's."""
    for folder in folders:
        if (folder / VOCABULARY).exists():
            return folder / VOCABULARY
        path = folder / TOKENIZER
        if path.exists() and holds_wordpieces(read_json(path)):
            return path
    return None


def _raise_if_any(problems: Mapping[str, list[str]], *, folder: Path) -> None:
    lines = [f"{len(names)} {kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if lines:
        raise CheckpointError(
            f"every tensor of {folder} must be known, present and of the shape its config.json says",
            got="; ".join(lines),
            remedy="Check that config.json and the weights belong together.",
        )
