"""The table of name rules: what the tensors of public checkpoints are called here.

A rule ties one tensor of a file to one or more leaves of a parameter tree. Linear kernels are stored
[out, in] in files and [in, out] here; a tensor tied to n leaves holds them one after another along axis 0.
Names are relative: `base` is the prefix of BERT's own tensors ("bert.", "realm." or none), `root` stands
before it and before the heads.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

Path = tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """One tensor of a file and its leaves.

    Attributes:
      name: name in the file, without root.
      paths: where the leaves are in the parameters of one part.
      transpose: the tensor is [out, in], the leaves are [in, out].
    """

    name: str
    paths: tuple[Path, ...]
    transpose: bool = False

    def leaves(self, tensor: np.ndarray) -> dict[Path, np.ndarray]:
        """Turn the tensor of the file into leaves."""
        pieces = np.split(tensor, len(self.paths), axis=0) if len(self.paths) > 1 else [tensor]
        return {
            path: piece.T if self.transpose else piece for path, piece in zip(self.paths, pieces, strict=True)
        }

    def tensor(self, leaf: Callable[[Path], np.ndarray]) -> np.ndarray:
        """Turn the leaves, looked up by path, into the tensor of the file."""
        pieces = [leaf(path).T if self.transpose else leaf(path) for path in self.paths]
        return np.ascontiguousarray(np.concatenate(pieces, axis=0) if len(pieces) > 1 else pieces[0])

    def shape(self, leaf_shape: Callable[[Path], tuple[int, ...]]) -> tuple[int, ...]:
        """Return the shape of the tensor in the file, from the shapes of its leaves."""
        first, *rest = (leaf_shape(path)[:: -1 if self.transpose else 1] for path in self.paths)
        return (first[0] + sum(shape[0] for shape in rest), *first[1:])


def rules(group: str, *, base: str, num_layers: int) -> list[Rule]:
    """List the rules of one group of tensors.

    Args:
      group: a key of `GROUPS`.
      base: prefix of BERT's own tensors.
      num_layers: Transformer layers.
    """
    return list(GROUPS[group](base, num_layers))


def _linear(name: str, *path: str) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", ((*path, "kernel"),), transpose=True)
    yield Rule(f"{name}.bias", ((*path, "bias"),))


def _norm(name: str, *path: str) -> Iterator[Rule]:
    yield Rule(f"{name}.weight", ((*path, "scale"),))
    yield Rule(f"{name}.bias", ((*path, "bias"),))


def _bert(base: str, num_layers: int) -> Iterator[Rule]:
    for table, place in (("word", "word"), ("position", "position"), ("token_type", "segment")):
        yield Rule(f"{base}embeddings.{table}_embeddings.weight", (("bert", place, "embedding"),))
    yield from _norm(f"{base}embeddings.LayerNorm", "bert", "embedding_norm")
    for number in range(num_layers):
        layer, here = f"{base}encoder.layer.{number}", ("bert", f"layers_{number}")
        for name in ("query", "key", "value"):
            yield from _linear(f"{layer}.attention.self.{name}", *here, "attention", name)
        yield from _linear(f"{layer}.attention.output.dense", *here, "attention", "out")
        yield from _norm(f"{layer}.attention.output.LayerNorm", *here, "attention_norm")
        yield from _linear(f"{layer}.intermediate.dense", *here, "intermediate")
        yield from _linear(f"{layer}.output.dense", *here, "output")
        yield from _norm(f"{layer}.output.LayerNorm", *here, "output_norm")


def _pooler(base: str, num_layers: int) -> Iterator[Rule]:
    del num_layers
    yield from _linear(f"{base}pooler.dense", "pooler")


def _projection(base: str, num_layers: int) -> Iterator[Rule]:
    del base, num_layers
    yield from _linear("cls.dense", "projection")
    yield from _norm("cls.LayerNorm", "projection_norm")


def _words(base: str, num_layers: int) -> Iterator[Rule]:
    del base, num_layers
    yield from _linear("cls.predictions.transform.dense", "transform")
    yield from _norm("cls.predictions.transform.LayerNorm", "transform_norm")
    yield Rule("cls.predictions.bias", (("word_bias",),))


def _spans(base: str, num_layers: int) -> Iterator[Rule]:
    del base, num_layers
    halves = "qa_outputs.dense_intermediate"  # start features, then end features
    yield Rule(f"{halves}.weight", (("start", "kernel"), ("end", "kernel")), transpose=True)
    yield Rule(f"{halves}.bias", (("start", "bias"), ("end", "bias")))
    yield from _norm("qa_outputs.layer_normalization", "span_norm")
    yield from _linear("qa_outputs.dense_output", "score")


GROUPS: dict[str, Callable[[str, int], Iterator[Rule]]] = {
    "bert": _bert,
    "pooler": _pooler,
    "projection": _projection,
    "words": _words,
    "spans": _spans,
}

# Tensors that repeat another one of the same root; {base} is filled in.
REPEATS = {
    "cls.predictions.decoder.weight": "{base}embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}

# Tensors no model here reads, relative to their root: kept as they are, so that an export can give them back.
UNREAD = re.compile(
    r"((bert|realm)\.)?embeddings\.(position_ids|token_type_ids)"
    r"|((bert|realm)\.)?pooler\.dense\.(weight|bias)"
    r"|cls\.predictions\.(bias|(decoder|transform\.dense|transform\.LayerNorm)\.(weight|bias))"
    r"|cls\.seq_relationship\.(weight|bias)"
    r"|(classifier|qa_outputs)\.(weight|bias)"
    r"|block_emb"
)

_OLD_NORM = re.compile(r"(?P<stem>.*(LayerNorm|layer_normalization))\.(?P<old>gamma|beta)")
_NEW_NORM = {"gamma": "weight", "beta": "bias"}


def modern(name: str) -> str:
    """Spell a name of an old checkpoint (LayerNorm's gamma and beta) the way the rules do."""
    old = _OLD_NORM.fullmatch(name)
    return f"{old['stem']}.{_NEW_NORM[old['old']]}" if old else name
