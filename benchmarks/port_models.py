"""Random models of the public classes, and what the PyTorch port computes with them; needs PyTorch.

benchmarks/parity.py starts it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import serve

CLASSES = ("RealmEmbedder", "RealmScorer", "RealmKnowledgeAugEncoder", "RealmReader", "BertForMaskedLM")
Computed = tuple[dict[str, Any], Any]  # outputs by name, and the scalar whose gradients are compared


def model(folder: str, seed: int) -> tuple[Callable[[], None], dict[str, Any]]:
    """Save a random model as the port does, and inputs, outputs and gradients as case.npz beside it."""
    import torch

    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    name = CLASSES[seed % len(CLASSES)]
    settings, length = random_sizes(rng)
    made, inputs = MAKERS[name](settings, length, rng)
    with torch.no_grad():
        for parameter in made.parameters():  # biases and scales too, which start as zeros and ones
            parameter += 0.2 * torch.randn_like(parameter)
    made.eval()
    outputs, scalar = COMPUTERS[name](made, {key: torch.from_numpy(array) for key, array in inputs.items()})
    scalar.backward()
    gradients = {key: parameter.grad for key, parameter in made.named_parameters()}
    made.save_pretrained(folder, safe_serialization=True)
    np.savez(
        Path(folder) / "case.npz",
        **{f"inputs/{key}": array for key, array in inputs.items()},
        **{f"outputs/{key}": tensor.detach().numpy() for key, tensor in outputs.items()},
        **{f"grads/{key}": tensor.numpy() for key, tensor in gradients.items() if tensor is not None},
    )
    return (lambda: None), {"class": name}


def random_sizes(rng: np.random.Generator) -> tuple[dict[str, Any], int]:
    """Draw the sizes of a model, and the tokens of a row."""
    heads, longest = int(rng.integers(1, 5)), int(rng.integers(16, 70))
    sizes = {
        "hidden_size": heads * int(rng.choice([4, 5, 8, 11])),
        "num_attention_heads": heads,
        "num_hidden_layers": int(rng.integers(1, 4)),
        "intermediate_size": int(rng.integers(8, 50)),
        "vocab_size": int(rng.integers(50, 200)),
        "max_position_embeddings": longest,
        "hidden_act": str(rng.choice(["gelu", "gelu_new", "relu"])),
        "layer_norm_eps": float(rng.choice([1e-12, 1e-5, 1e-3])),
        "pad_token_id": 0,
    }
    return sizes, int(rng.integers(12, longest + 1))


def realm_config(sizes: dict[str, Any], rng: np.random.Generator, **more: Any) -> Any:
    from transformers import RealmConfig

    return RealmConfig(
        **sizes,
        retriever_proj_size=int(rng.integers(3, 33)),
        num_candidates=int(rng.integers(1, 6)),
        span_hidden_size=int(rng.integers(2, 40)),
        max_span_width=int(rng.integers(1, 11)),
        reader_layer_norm_eps=float(rng.choice([1e-3, 1e-5, 1e-12])),
        num_block_records=8,
        **more,
    )


def rows(
    rng: np.random.Generator, *shape: int, vocabulary: int, prefix: str = "", least: int = 3
) -> dict[str, np.ndarray]:
    """Draw rows of tokens `[..., L]`, int64, of several lengths and two segments; `shape` ends in L."""
    count = rng.integers(least, shape[-1] + 1, (*shape[:-1], 1))
    place = np.arange(shape[-1])
    mask = (place < count).astype(np.int64)
    return {
        f"{prefix}input_ids": rng.integers(1, vocabulary, shape) * mask,
        f"{prefix}attention_mask": mask,
        f"{prefix}token_type_ids": (place >= count // 2) * mask,
    }


def embedder(sizes: dict[str, Any], length: int, rng: np.random.Generator) -> Any:
    from transformers import RealmEmbedder

    return RealmEmbedder(realm_config(sizes, rng)), rows(rng, 3, length, vocabulary=sizes["vocab_size"])


def scorer(sizes: dict[str, Any], length: int, rng: np.random.Generator) -> Any:
    """Make a scorer of one tower or two."""
    from transformers import RealmEmbedder, RealmScorer

    config, words = realm_config(sizes, rng), sizes["vocab_size"]
    made = RealmScorer(config, RealmEmbedder(config) if rng.random() < 0.5 else None)
    blocks = rows(rng, 2, config.num_candidates, length, vocabulary=words, prefix="candidate_")
    return made, {**rows(rng, 2, length, vocabulary=words), **blocks}


def encoder(sizes: dict[str, Any], length: int, rng: np.random.Generator) -> Any:
    from transformers import RealmKnowledgeAugEncoder

    config = realm_config(sizes, rng)
    inputs = rows(rng, 2, config.num_candidates, length, vocabulary=sizes["vocab_size"])
    masked = np.zeros((2, length), np.int64)
    masked[:, 1:3] = 1
    words = rng.integers(1, sizes["vocab_size"], masked.shape)
    scores = 2 * rng.standard_normal((2, config.num_candidates)).astype(np.float32)
    wanted = {"labels": np.where(masked > 0, words, -100), "mlm_mask": masked, "relevance_score": scores}
    return RealmKnowledgeAugEncoder(config), {**inputs, **wanted}


def reader(sizes: dict[str, Any], length: int, rng: np.random.Generator) -> Any:
    """Make a reader, and blocks of which the first has an answer of one token."""
    from transformers import RealmReader

    read = int(rng.integers(1, 5))
    config = realm_config(sizes, rng, reader_beam_size=read, reader_seq_len=length, searcher_beam_size=read)
    length = max(length, config.max_span_width)
    inputs = rows(rng, read, length, vocabulary=sizes["vocab_size"], least=min(8, length))
    count = inputs["attention_mask"].sum(-1, keepdims=True)
    place = np.arange(length)
    answers = np.full((read, 1), -1)
    answers[0] = 4
    wanted = {
        "block_mask": (place >= 3) & (place < count - 1),
        "relevance_score": 2 * rng.standard_normal(read).astype(np.float32),
        "start_positions": answers,
        "end_positions": answers,
        "has_answers": answers[:, 0] >= 0,
    }
    return RealmReader(config), {**inputs, **wanted}


def masked_words(sizes: dict[str, Any], length: int, rng: np.random.Generator) -> Any:
    from transformers import BertConfig, BertForMaskedLM

    return BertForMaskedLM(BertConfig(**sizes)), rows(rng, 3, length, vocabulary=sizes["vocab_size"])


def read_spans(made: Any, inputs: dict[str, Any]) -> Computed:
    """Read blocks; the scores of all spans are caught where the port still has them apart."""
    caught: list[Any] = []
    handle = made.qa_outputs.register_forward_hook(lambda module, given, out: caught.append(out[0].clone()))
    said = made(**inputs)
    handle.remove()
    scores = caught[0].masked_fill(caught[0] < -1e30, -float("inf"))
    places = {"block": said.block_idx, "start": said.start_pos, "stop": said.end_pos}
    return {"loss": said.loss, "span_scores": scores, **places}, said.loss


def one_output(name: str) -> Callable[[Any, dict[str, Any]], Computed]:
    """Return how to compute one output, whose sum of squares has the gradients."""

    def compute(made: Any, inputs: dict[str, Any]) -> Computed:
        output = made(**inputs)[name]
        return {name: output}, (output * output).sum()

    return compute


def word_logits(made: Any, inputs: dict[str, Any]) -> Computed:
    """Score words; gradients of tokens that are there: the port leaves out those of [PAD]'s embedding."""
    logits = made(**inputs).logits
    return {"logits": logits}, (logits * logits * inputs["attention_mask"][..., None]).sum()


def fill_in(made: Any, inputs: dict[str, Any]) -> Computed:
    said = made(**inputs)
    return {"loss": said.loss, "logits": said.logits}, said.loss


MAKERS: dict[str, Callable[..., Any]] = dict(
    zip(CLASSES, (embedder, scorer, encoder, reader, masked_words), strict=True)
)
COMPUTERS: dict[str, Callable[[Any, dict[str, Any]], Computed]] = {
    "RealmEmbedder": one_output("projected_score"),
    "RealmScorer": one_output("relevance_score"),
    "RealmKnowledgeAugEncoder": fill_in,
    "RealmReader": read_spans,
    "BertForMaskedLM": word_logits,
}


if __name__ == "__main__":
    serve({"model": model})
