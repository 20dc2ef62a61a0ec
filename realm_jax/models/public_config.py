"""Read and write `config.json` of the public layout, and the pooling files of sentence encoders."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_jax.errors import CheckpointError

ACTIVATION_NAMES = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "relu": "relu",
}
PUBLIC_ACTIVATIONS = {"gelu": "gelu", "gelu_tanh": "gelu_new", "relu": "relu"}

# Configurations are saved without the values that equal the library's defaults, so these have to be known.
DEFAULTS: dict[str, dict[str, Any]] = {
    "bert": {"hidden_act": "gelu"},
    "realm": {"hidden_act": "gelu_new"},
}
COMMON_DEFAULTS: dict[str, Any] = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_dropout_prob": 0.1,
    "retriever_proj_size": 128,
    "span_hidden_size": 256,
    "max_span_width": 10,
    "reader_layer_norm_eps": 1e-3,
}
SIZES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "retriever_proj_size",
    "span_hidden_size",
    "max_span_width",
]
RATES = ["layer_norm_eps", "reader_layer_norm_eps", "hidden_dropout_prob"]
READER_DEFAULTS = {"reader_seq_len": 320, "searcher_seq_len": 64, "reader_beam_size": 5}  # as published
POOLING = "1_Pooling"  # the folder's usual name
POOLING_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def read_json(path: Path, *, kind: type = dict) -> Any:
    """Read a JSON file that holds an object, or what else is said.

    Args:
      path: of the file.
      kind: dict or list.

    Raises:
      CheckpointError: the file is missing, not JSON, or holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} must be a readable JSON file", got=str(error), remedy="Download the folder again."
        ) from error
    if not isinstance(value, kind):
        raise CheckpointError(
            f"{path} must hold a JSON {'object' if kind is dict else 'list'}",
            got=type(value).__name__,
            remedy="Download the folder again.",
        )
    return value


def model_config(public: dict[str, Any], *, family: str) -> dict[str, Any]:
    """Translate a public configuration.

    Args:
      public: the content of `config.json`.
      family: "bert" or "realm", which decides the defaults.

    Returns:
      The model's part of a run's config, in plain JSON types, with `pooling` "pooler" and `normalize` False.
      The attention's own dropout rate is not kept apart: `hidden_dropout_prob` stands for both.

    Raises:
      CheckpointError: a size or rate that is none, or an activation, a kind of position embedding or of
        attention that the models here do not have.
    """
    value = {**COMMON_DEFAULTS, **DEFAULTS[family], **public}
    check_values(value, sizes=SIZES, rates=RATES)
    if value["hidden_size"] % value["num_attention_heads"]:
        raise CheckpointError(
            "num_attention_heads must divide hidden_size",
            got=f"{value['num_attention_heads']} and {value['hidden_size']}",
            remedy="Download config.json again.",
        )
    positions = value.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        raise CheckpointError(
            "position_embedding_type must be absolute", got=positions, remedy="Use another checkpoint."
        )
    if value.get("is_decoder") or value.get("add_cross_attention"):
        raise CheckpointError(
            "attention must look both ways: is_decoder and add_cross_attention must be false",
            got=f"{value.get('is_decoder')} and {value.get('add_cross_attention')}",
            remedy="Use another checkpoint.",
        )
    if str(value["hidden_act"]) not in ACTIVATION_NAMES:
        raise CheckpointError(
            f"hidden_act must be one of {', '.join(ACTIVATION_NAMES)}",
            got=value["hidden_act"],
            remedy="Use another checkpoint.",
        )
    return {
        "bert": {
            "hidden_size": value["hidden_size"],
            "num_layers": value["num_hidden_layers"],
            "num_heads": value["num_attention_heads"],
            "intermediate_size": value["intermediate_size"],
            "max_positions": value["max_position_embeddings"],
            "type_vocab_size": value["type_vocab_size"],
            "activation": ACTIVATION_NAMES[value["hidden_act"]],
            "layer_norm_eps": float(value["layer_norm_eps"]),
            "dropout": float(value["hidden_dropout_prob"]),
        },
        "vocab_size": value["vocab_size"],
        "embedding_size": value["retriever_proj_size"],
        "two_towers": False,
        "span_hidden_size": value["span_hidden_size"],
        "span_norm_eps": float(value["reader_layer_norm_eps"]),
        "max_span_width": value["max_span_width"],
        "pooling": "pooler",
        "normalize": False,
    }


def reader_config(public: dict[str, Any]) -> dict[str, int]:
    """Read how a public reader is used, beside its sizes.

    Args:
      public: the content of `config.json`.

    Returns:
      Tokens of question and block together (`reader_seq_len`), of a question (`searcher_seq_len`, which the
      library has no name for), and blocks read a question (`reader_beam_size`).

    Raises:
      CheckpointError: one is no number from 1 up.
    """
    value = {name: public.get(name, default) for name, default in READER_DEFAULTS.items()}
    check_values(value, sizes=list(value))
    return value


def check_values(public: dict[str, Any], *, sizes: list[str], rates: Sequence[str] = ()) -> None:
    """Refuse sizes that are no integers from 1 up, and rates that are no numbers from 0 up, all in one error.

    Raises:
      CheckpointError: there are some.
    """

    def fits(value: Any, kinds: tuple[type, ...], least: int) -> bool:
        number = isinstance(value, kinds) and not isinstance(value, bool)
        return number and least <= float(value) < float("inf")

    wrong = [name for name in sizes if not fits(public[name], (int,), 1)]
    wrong += [name for name in rates if not fits(public[name], (int, float), 0)]
    if wrong:
        raise CheckpointError(
            "in config.json sizes must be integers from 1 up, rates numbers from 0 up",
            got=", ".join(f"{name} {public[name]!r}" for name in wrong),
            remedy="Download config.json again.",
        )


def public_config(config: dict[str, Any], *, architecture: str, family: str) -> dict[str, Any]:
    """Translate back: the content of `config.json` for a model trained here.

    Args:
      config: as `model_config` returns it.
      architecture: the public class, such as RealmScorer.
      family: "bert" or "realm".
    """
    bert = config["bert"]
    public = {
        "architectures": [architecture],
        "model_type": family,
        "vocab_size": config["vocab_size"],
        "hidden_size": bert["hidden_size"],
        "num_hidden_layers": bert["num_layers"],
        "num_attention_heads": bert["num_heads"],
        "intermediate_size": bert["intermediate_size"],
        "max_position_embeddings": bert["max_positions"],
        "type_vocab_size": bert["type_vocab_size"],
        "hidden_act": PUBLIC_ACTIVATIONS[bert["activation"]],
        "layer_norm_eps": bert["layer_norm_eps"],
        "hidden_dropout_prob": bert["dropout"],
        "attention_probs_dropout_prob": bert["dropout"],
        "pad_token_id": 0,
        "torch_dtype": "float32",
    }
    if family == "realm":
        public |= {
            "retriever_proj_size": config["embedding_size"],
            "span_hidden_size": config["span_hidden_size"],
            "reader_layer_norm_eps": config["span_norm_eps"],
            "max_span_width": config["max_span_width"],
            "two_towers": config["two_towers"],  # ours: equal towers stay two
        }
    return public


def read_pooling(folder: Path) -> tuple[Path, str, bool] | None:
    """Read how a sentence encoder pools, from `modules.json` and the folders it names.

    Args:
      folder: the checkpoint; without a `modules.json` it may still hold `1_Pooling/config.json`.

    Returns:
      The folder of the Transformer, the pooling and whether embeddings have length 1; None where the folder
      is no sentence encoder.

    Raises:
      CheckpointError: a module or a pooling that the embedder does not have.
    """
    listed = folder / "modules.json"
    if not listed.exists():
        alone = folder / POOLING / "config.json"
        return (folder, _pooling_of(alone), False) if alone.exists() else None
    try:
        steps = {
            str(step["type"]).rsplit(".", 1)[-1]: str(step["path"]) for step in read_json(listed, kind=list)
        }
    except (TypeError, KeyError) as error:
        raise CheckpointError(
            f"{listed} must hold a list of modules with type and path",
            got=f"{type(error).__name__}: {error}",
            remedy="Download the folder again.",
        ) from error
    unknown = [name for name in steps if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown or not {"Transformer", "Pooling"} <= set(steps):
        raise CheckpointError(
            "a sentence encoder must be made of Transformer, Pooling and, if any, Normalize",
            got=", ".join(steps),
            remedy="Remove modules.json and choose the pooling yourself.",
        )
    pooling = _pooling_of(folder / steps["Pooling"] / "config.json")
    return folder / steps["Transformer"], pooling, "Normalize" in steps


def _pooling_of(path: Path) -> str:
    """Read a pooling's config: one flag a mode, or (newer) `pooling_mode` with the name of one or several."""
    said = read_json(path)
    named = said.get("pooling_mode")
    if named is None:
        flags = [key for key, value in said.items() if key.startswith("pooling_mode_") and value]
        chosen = [POOLING_MODES.get(key, key) for key in flags] or ["mean"]  # as its own library reads it
    else:
        chosen = named if isinstance(named, list) else [named]
    if len(chosen) != 1 or chosen[0] not in POOLING_MODES.values():
        raise CheckpointError(
            f"{path} must choose one pooling, of {', '.join(POOLING_MODES.values())}",
            got=", ".join(map(str, chosen)),
            remedy="Use another checkpoint.",
        )
    return str(chosen[0])


def write_pooling(folder: Path, *, pooling: str, normalize: bool, size: int) -> None:
    """Write the files that `read_pooling` reads; `size` is the embedding's."""
    kinds = [
        ("", "Transformer"),
        (POOLING, "Pooling"),
        *([("2_Normalize", "Normalize")] if normalize else []),
    ]
    modules = [
        {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds)
    ]
    modes = {key: value == pooling for key, value in POOLING_MODES.items()}
    for path, _ in kinds:
        (folder / path).mkdir(parents=True, exist_ok=True)
    (folder / "modules.json").write_text(json.dumps(modules, indent=1))
    (folder / POOLING / "config.json").write_text(
        json.dumps({"word_embedding_dimension": size, **modes}, indent=1)
    )
