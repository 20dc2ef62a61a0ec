"""Compare random models of the public classes, imported, with the PyTorch port: outputs and gradients.

    python -m benchmarks.parity --peer build/peers/bin/python --models 40

Each is saved by the port, imported by `realm_jax import`, and computes what the port has computed; sizes,
activations, epsilons, lengths and weights are drawn. Outputs may differ by 3e-5 of the largest, gradients by
1e-4 of their own largest and 1e-5 of the largest of all. Ends with 1 where one differs by more, or is not
imported.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.turns import Side
from realm_jax.cli import main as realm_jax
from realm_jax.models.build import Models
from realm_jax.models.export import to_tensors
from realm_jax.models.knowledge_encoder import gold_log_prob
from realm_jax.models.pretrained import import_pretrained, imported_models
from realm_jax.ops.marginal import token_loss
from realm_jax.ops.open_qa import best_spans, orqa_loss, orqa_span_log_prob
from realm_jax.ops.relevance import relevance_score, retrieval_log_prob
from realm_jax.ops.spans import span_allowed, span_matches, span_table
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.types import Params, Tokens

Arrays = Mapping[str, np.ndarray]
Computed = tuple[jax.Array, dict[str, jax.Array]]  # the scalar with the gradients, and outputs by name


def tokens(case: Arrays, prefix: str = "") -> Tokens:
    ids, mask, segments = (
        case[f"inputs/{prefix}{name}"] for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    return Tokens(ids=ids.astype(np.int32), mask=mask.astype(bool), segments=segments.astype(np.int32))


def squares(name: str, output: jax.Array) -> Computed:
    return jnp.sum(output * output), {name: output}


def embed(models: Models, params: Params, case: Arrays) -> Computed:
    return squares("projected_score", models.embed_query(params, tokens(case)))


def score(models: Models, params: Params, case: Arrays) -> Computed:
    query = models.embed_query(params, tokens(case))
    blocks = models.embed_block(params, tokens(case, "candidate_"))
    return squares("relevance_score", relevance_score(query, blocks))


def fill_in(models: Models, params: Params, case: Arrays) -> Computed:
    labels, weights = case["inputs/labels"], case["inputs/mlm_mask"].astype(np.float32)
    places = np.broadcast_to(np.arange(labels.shape[1], dtype=np.int32), labels.shape)
    logits = models.word_logits(params, tokens(case), places)
    gold = gold_log_prob(logits, np.where(weights > 0, labels, 0).astype(np.int32))
    scores = jnp.asarray(case["inputs/relevance_score"])
    total, count = token_loss(retrieval_log_prob(scores, jnp.ones(scores.shape, bool)), gold, weights)
    return total / count, {"loss": total / count, "logits": logits.reshape(-1, *logits.shape[2:])}


def read(models: Models, params: Params, case: Arrays) -> Computed:
    rows, width = tokens(case), models.reader.max_span_width
    starts, stops = (case[f"inputs/{side}_positions"].astype(np.int32) for side in ("start", "end"))
    allowed = span_allowed(jnp.asarray(case["inputs/block_mask"]), max_width=width)
    correct = span_matches(starts, stops, starts >= 0, length=rows.ids.shape[1], max_width=width) & allowed
    scores = jnp.where(allowed, models.span_scores(params, rows), -jnp.inf)
    beam: dict[str, Any] = {
        "span_scores": scores[None],
        "relevance": case["inputs/relevance_score"][None],
        "is_valid": np.ones((1, len(scores)), bool),
    }
    loss, _, _ = orqa_loss(span_correct=correct[None], has_answer=case["inputs/has_answers"][None], **beam)
    block, span = (place[0, :1] for place in best_spans(orqa_span_log_prob(**beam))[:2])
    first, last = (jnp.asarray(side)[span] for side in span_table(rows.ids.shape[1], width))
    return loss, {"loss": loss, "span_scores": scores, "block": block, "start": first, "stop": last}


def words(models: Models, params: Params, case: Arrays) -> Computed:
    rows = jax.tree.map(lambda side: side[:, None], tokens(case))  # one candidate a text
    length = rows.ids.shape[-1]
    places = np.broadcast_to(np.arange(length, dtype=np.int32), (len(rows.ids), length))
    logits = models.word_logits(params, rows, places)[:, 0]
    return jnp.sum(logits * logits * case["inputs/attention_mask"][..., None]), {"logits": logits}


COMPUTED: dict[str, Callable[[Models, Params, Arrays], Computed]] = {
    "RealmEmbedder": embed,
    "RealmScorer": score,
    "RealmKnowledgeAugEncoder": fill_in,
    "RealmReader": read,
    "BertForMaskedLM": words,
}


def excess(name: str, folder: Path) -> float:
    """Import a model and compute; returns the largest difference, as a part of what is allowed."""
    with redirect_stdout(sys.stderr):
        failed = realm_jax(["import", str(folder), "--workdir", str(folder / "run")])
    if failed:
        return float("inf")
    pretrained = import_pretrained(folder)
    models, layers = imported_models(pretrained.config), pretrained.config["bert"]["num_layers"]
    with np.load(folder / "case.npz") as stored:
        case = dict(stored)
    compute = jax.value_and_grad(lambda params: COMPUTED[name](models, params, case), has_aux=True)
    saved = Checkpoints(folder / "run").restore_params()
    (_, outputs), gradients = jax.jit(compute)({part: saved[part] for part in pretrained.params})
    places = pretrained.source.places
    if "encoder" in places:  # a BERT with a head is an embedder too, of the same tensors
        places = {"encoder": places["encoder"]}
    tensors = to_tensors(gradients, replace(pretrained.source, places=places), num_layers=layers)
    return max(
        *(
            beyond(outputs[key.removeprefix("outputs/")], case[key])
            for key in case
            if key.startswith("outputs/")
        ),
        gradient_excess(tensors, case),
    )


def beyond(ours: jax.Array, theirs: np.ndarray) -> float:
    """Compare an output where it is finite, with 3e-5 of its largest, and 1e-6 for what is nearly nothing."""
    finite = np.isfinite(theirs)
    found = np.asarray(ours).reshape(theirs.shape)
    if not np.array_equal(np.isfinite(found), finite):
        return float("inf")
    largest = np.abs(theirs[finite]).max(initial=0.0)
    return float(np.abs(found[finite] - theirs[finite]).max(initial=0.0) / (3e-5 * largest + 1e-6))


def gradient_excess(ours: Arrays, case: Arrays) -> float:
    """Compare gradients by the names of their tensors."""
    theirs = {key.removeprefix("grads/"): array for key, array in case.items() if key.startswith("grads/")}
    largest = max(np.abs(array).max() for array in theirs.values())
    return max(
        float(np.abs(ours[key] - array).max() / (1e-4 * np.abs(array).max() + 1e-5 * largest + 1e-7))
        for key, array in theirs.items()
    )


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--peer", required=True, help="interpreter with benchmarks/requirements-peers.txt")
    parser.add_argument("--models", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the first; the others have the next ones")
    args = parser.parse_args(arguments)
    worst: dict[str, list[float]] = defaultdict(list)
    with ExitStack() as stack:
        stack.enter_context(jax.default_matmul_precision("highest"))
        root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = stack.enter_context(Side("benchmarks.port_models", python=args.peer, threads=1))
        for seed in range(args.seed, args.seed + args.models):
            folder = root / str(seed)
            name = port.prepare("model", folder=str(folder), seed=seed)["class"]
            worst[name].append(excess(name, folder))
            if worst[name][-1] > 1:
                print(f"seed {seed}, {name}: {worst[name][-1]:.2f} of what is allowed")
    for name, found in worst.items():
        equal = sum(part <= 1 for part in found)
        print(f"{name:<26} {equal} of {len(found)} equal, at most {max(found):.2f} of what is allowed")
    sys.exit(max(max(found) for found in worst.values()) > 1)


if __name__ == "__main__":
    main()
