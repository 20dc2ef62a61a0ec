"""Find a checkpoint folder: on this machine, or on the model hub where there is a network."""

from collections.abc import Callable
from pathlib import Path

from huggingface_hub import snapshot_download

from realm_jax.errors import CheckpointError
from realm_jax.models.weights_file import SHARDS, TORCH
from realm_jax.text.normalisation import SETTINGS, TOKENIZER
from realm_jax.text.tokenizer import VOCABULARY

# Everything an import reads, and nothing that runs. Weights in torch's format only where there are no others.
WANTED = [
    "config.json",
    "*.safetensors",
    SHARDS,
    VOCABULARY,
    TOKENIZER,
    SETTINGS,
    "modules.json",
    "*_Pooling/config.json",
    "*_Transformer/*",
    "block_records.npy",
]


def checkpoint_folder(name: str, *, download: Callable[..., str] = snapshot_download) -> Path:
    """Return the folder of a checkpoint, downloading it where the name is no folder.

    Args:
      name: a local folder, or a name on the hub such as `bert-base-uncased` or `owner/model`.
      download: fetches (name, allow_patterns=...) and returns the folder.

    Raises:
      CheckpointError: neither a folder nor a model that can be fetched.
    """
    folder = Path(name)
    if folder.is_dir():
        return folder
    try:
        fetched = Path(download(name, allow_patterns=WANTED))
        if not any(fetched.rglob("*.safetensors")):
            fetched = Path(download(name, allow_patterns=[*WANTED, TORCH]))
        return fetched
    except Exception as error:  # no network, no such model, no valid name: these have no common base
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        raise CheckpointError(
            "a checkpoint must be a local folder or a model on the hub",
            got=f"{name!r} ({type(error).__name__}: {reason})",
            remedy="Check the path; without a network, copy the folder here first.",
        ) from error
