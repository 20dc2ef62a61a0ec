"""Read and write `config.json` of the public layout, and the pooling files of sentence encoders."""

import json
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
POOLING_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
      CheckpointError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} must be a readable JSON file", got=str(error), remedy="Download the folder again."
        ) from error


def model_config(public: dict[str, Any], *, family: str) -> dict[str, Any]:
    """Translate a public configuration.

    Args:
      public: the content of `config.json`.
      family: "bert" or "realm", which decides the defaults.

    Returns:
      The model's part of a run's config, in plain JSON types, with `pooling` "pooler" and `normalize` False.
      The attention's own dropout rate is not kept apart: `hidden_dropout_prob` stands for both.

    Raises:
      CheckpointError: an activation or a kind of position embedding that the models here do not have.
    """
    value = {**COMMON_DEFAULTS, **DEFAULTS[family], **public}
    positions = value.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise CheckpointError(
            "position_embedding_type must be absolute", got=positions, remedy="Use another checkpoint."
        )
    if value["hidden_act"] not in ACTIVATION_NAMES:
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
      folder: the checkpoint.

    Returns:
      The folder of the Transformer, the pooling and whether embeddings have length 1; None where the folder
      is no sentence encoder.

    Raises:
      CheckpointError: a module or a pooling that the embedder does not have.
    """
    if not (folder / "modules.json").exists():
        return None
    steps = {
        str(step["type"]).rsplit(".", 1)[-1]: str(step["path"]) for step in read_json(folder / "modules.json")
    }
    unknown = [name for name in steps if name not in ("Transformer", "Pooling", "Normalize")]
    if unknown or not {"Transformer", "Pooling"} <= set(steps):
        raise CheckpointError(
            "a sentence encoder must be made of Transformer, Pooling and, if any, Normalize",
            got=", ".join(steps),
            remedy="Remove modules.json and choose the pooling yourself.",
        )
    pooling = read_json(folder / steps["Pooling"] / "config.json")
    chosen = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    if len(chosen) != 1 or chosen[0] not in POOLING_MODES:
        raise CheckpointError(
            f"exactly one of {', '.join(POOLING_MODES)} must be true",
            got=chosen,
            remedy="Use another checkpoint.",
        )
    return folder / steps["Transformer"], POOLING_MODES[chosen[0]], "Normalize" in steps


def write_pooling(folder: Path, *, pooling: str, normalize: bool, size: int) -> None:
    """Write the files that `read_pooling` reads; `size` is the embedding's."""
    kinds = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
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
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": size, **modes}, indent=1)
    )
