"""Where the parts of a model stand in a public checkpoint: found by name, or laid out by architecture."""

import dataclasses
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from realm_jax.errors import CheckpointError, ConfigError
from realm_jax.models.names import Rule, rules

_ANCHOR = re.compile(
    r"(?P<prefix>.*?)embeddings\.((word|position|token_type)_embeddings|LayerNorm)\.(weight|bias)"
)
_BASE = re.compile(r"(?P<root>(.*\.)?)(?P<base>(bert|realm)\.)")


@dataclass(frozen=True)
class Place:
    """Where one part stands in a file.

    Attributes:
      root: prefix of the part.
      base: prefix of BERT's own tensors behind the root: "bert.", "realm." or none.
      groups: the groups of rules that make up the part.
    """

    root: str
    base: str
    groups: tuple[str, ...]

    def rules(self, num_layers: int) -> Iterator[Rule]:
        """Yield the rules of the part, with full names."""
        for group in self.groups:
            for rule in rules(group, base=self.base, num_layers=num_layers):
                yield dataclasses.replace(rule, name=self.root + rule.name)


Places = dict[str, Place]  # by name of the part


@dataclass(frozen=True)
class Architecture:
    """How one public class lays its parts out.

    Attributes:
      family: "bert" or "realm".
      places: where its parts stand.
    """

    family: str
    places: Places


EMBEDDER = ("bert", "pooler", "projection")
ENCODER = ("bert", "words")
READER = ("bert", "spans")


def find_places(names: Collection[str]) -> tuple[Places, str]:
    """Find the parts in a file by the names of its tensors.

    Args:
      names: spelled as the rules spell them.

    Returns:
      The places, and the family ("bert" or "realm"). Two embedders are `query_embedder` and `block_embedder`,
      one is `embedder`. A plain BERT is an `embedder` without a projection and, where it has a masked-LM
      head, an `encoder` too.

    Raises:
      CheckpointError: there is no BERT, or there are two parts of one kind.
    """
    prefixes = sorted({found["prefix"] for name in names if (found := _ANCHOR.fullmatch(name))})
    found_parts: list[tuple[str, Place]] = []
    family = "bert"
    for prefix in prefixes:
        split = _BASE.fullmatch(prefix)
        root, base = (split["root"], split["base"]) if split else (prefix, "")
        if base == "realm.":
            family = "realm"
        found_parts += _parts(root, base, names)
    kinds = [part for part, _ in found_parts]
    if not kinds or any(kinds.count(part) > 1 for part in kinds):
        raise CheckpointError(
            "a checkpoint must hold at least one BERT and at most one part of a kind",
            got=f"{', '.join(kinds) or 'none'} among the tensors {_some(names)}",
            remedy="Split the file, or check that it is a BERT or REALM checkpoint.",
        )
    places = dict(found_parts)
    if "query_embedder" in places and "embedder" in places:
        places["block_embedder"] = places.pop("embedder")
    elif "query_embedder" in places:
        places["embedder"] = places.pop("query_embedder")
    return places, family


def _parts(root: str, base: str, names: Collection[str]) -> Iterator[tuple[str, Place]]:
    """Yield the parts that one BERT carries, by the heads that stand beside it."""

    def has(*starts: str) -> bool:
        return any(name.startswith(root + start) for name in names for start in starts)

    if has("cls.dense.", "cls.LayerNorm."):
        part = "query_embedder" if root.endswith("query_embedder.") else "embedder"
        yield part, Place(root, base, EMBEDDER)
    elif has("qa_outputs.dense_", "qa_outputs.layer_norm"):
        yield "reader", Place(root, base, READER)
    elif base == "realm.":
        yield "encoder", Place(root, base, ENCODER)
    else:
        yield "embedder", Place(root, base, ("bert", "pooler") if has(f"{base}pooler.") else ("bert",))
        if has("cls.predictions.transform."):
            yield "encoder", Place(root, base, ENCODER)


def architecture(name: str, config: dict[str, Any]) -> Architecture:
    """Lay the parts of a model out as a public class does.

    Args:
      name: of the class: RealmEmbedder, RealmScorer, RealmKnowledgeAugEncoder, RealmReader, RealmForOpenQA,
        BertModel or BertForMaskedLM.
      config: the model's config, as `public_config.model_config` returns it.

    Raises:
      ConfigError: the class is unknown, or has no room for an embedder of this kind.
    """
    query = "query_embedder" if config["two_towers"] else "embedder"
    block = "block_embedder" if config["two_towers"] else "embedder"
    # One tower has its place once; its second name in a scorer is a repetition.
    towers = {
        query: Place("query_embedder.", "realm.", EMBEDDER),
        block: Place("embedder.", "realm.", EMBEDDER),
    }
    pooled = ("bert", "pooler") if config["pooling"] == "pooler" else ("bert",)
    known = {
        "RealmEmbedder": Architecture("realm", {query: Place("", "realm.", EMBEDDER)}),
        "RealmScorer": Architecture("realm", towers),
        "RealmKnowledgeAugEncoder": Architecture("realm", {"encoder": Place("", "realm.", ENCODER)}),
        "RealmReader": Architecture("realm", {"reader": Place("", "realm.", READER)}),
        "RealmForOpenQA": Architecture(
            "realm",
            {query: Place("embedder.", "realm.", EMBEDDER), "reader": Place("reader.", "realm.", READER)},
        ),
        "BertModel": Architecture("bert", {query: Place("", "", pooled)}),
        "BertForMaskedLM": Architecture("bert", {"encoder": Place("", "bert.", ENCODER)}),
    }
    if name not in known:
        raise ConfigError(f"architecture must be one of {', '.join(known)}", got=name, remedy="Pick one.")
    if query in known[name].places:
        plain = not config["embedding_size"]
        realm = not plain and config["pooling"] == "pooler" and not config["normalize"]
        if not (plain if known[name].family == "bert" else realm):
            raise ConfigError(
                "BertModel holds an embedder without a projection, the REALM classes one with pooler and "
                "projection, not normalised",
                got=f"{name} for embedding_size {config['embedding_size']}, pooling {config['pooling']}, "
                f"normalize {config['normalize']}",
                remedy="Pick the class that fits the embedder.",
            )
    return known[name]


def _some(names: Collection[str]) -> str:
    shown = sorted(names)[:5]
    return ", ".join(shown) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
