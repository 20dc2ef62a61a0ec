"""A model of one layer, and batches of random tokens for each step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.data.questions import Occurrences
from realm_jax.models.bert import Bert
from realm_jax.models.build import Models, build_models
from realm_jax.models.reader import SPAN_SCORER
from realm_jax.ops.marginal import token_loss
from realm_jax.ops.open_qa import QA_LOSSES
from realm_jax.ops.relevance import retrieval_log_prob
from realm_jax.train.accumulate import Accumulate, by_embeddings, by_sums
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.relevance import query_side_relevance
from realm_jax.train.steps import ict_contrast, ict_embeddings, ict_loss, qa_loss, realm_loss
from realm_jax.types import Beam, Blocks, Candidates, IctBatch, MaskedBatch, QuestionBatch, Rows

B, K, M, VOCABULARY, DIMENSION = 8, 4, 2, 40, 8
QUERY, TITLE, BODY = 9, 4, 10  # tokens
SPAN_WEIGHT = 0.7
CLS, SEP, MASK = 1, 2, 3


def models(*, dropout: float = 0.0, two_towers: bool = False) -> Models:
    bert = Bert(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        intermediate_size=24,
        max_positions=32,
        type_vocab_size=2,
        activation="gelu_tanh",
        layer_norm_eps=1e-12,
        dropout=dropout,
        dtype=jnp.dtype("float32"),
    )
    return build_models(
        bert=bert,
        embedding_size=DIMENSION,
        two_towers=two_towers,
        span_hidden_size=8,
        span_norm_eps=1e-3,
        max_span_width=3,
    )


def optimizer(*names: str, rate: float = 1e-2):
    return make_optimizer(
        learning_rates=dict.fromkeys(names, rate), steps=100, warmup=1, weight_decay=0.01, clip_norm=1.0
    )


def rows(rng: np.random.Generator, shape: tuple[int, ...], width: int, *, cls: bool) -> Rows:
    """Draw rows of different lengths that end with [SEP]."""
    length = rng.integers(5 if cls else 2, width + 1, shape).astype(np.int32)
    ids = rng.integers(5, VOCABULARY, (*shape, width)).astype(np.int32)
    if cls:
        ids[..., 0] = CLS
    place = np.arange(width)
    ids = np.where(place == length[..., None] - 1, SEP, np.where(place < length[..., None], ids, 0))
    return Rows(ids=ids.astype(np.int32), length=length)


def blocks(rng: np.random.Generator, shape: tuple[int, ...]) -> Blocks:
    title = np.broadcast_to(np.array([CLS, 7, SEP, 0], np.int32), (*shape, TITLE)).copy()
    length = np.full(shape, 3, np.int32)
    return Blocks(title=Rows(ids=title, length=length), body=rows(rng, shape, BODY, cls=False))


def candidates(rng: np.random.Generator, count: int = B) -> Candidates:
    """Draw candidates; the null block comes first, and the last one of every other row is not valid."""
    valid = np.ones((count, K), bool)
    valid[::2, -1] = False
    return Candidates(
        block_ids=rng.integers(0, 50, (count, K)).astype(np.int32),
        blocks=blocks(rng, (count, K)),
        is_null=np.broadcast_to(np.arange(K) == 0, (count, K)).copy(),
        is_valid=valid,
    )


def masked_batch(rng: np.random.Generator, count: int = B) -> MaskedBatch:
    query = rows(rng, (count,), QUERY, cls=True)
    query.ids[:, 1:3] = MASK
    weights = np.ones((count, M), np.float32)
    weights[::2, 1] = 0
    return MaskedBatch(
        query=query,
        target_positions=np.broadcast_to(np.array([1, 2], np.int32), (count, M)).copy(),
        target_ids=rng.integers(5, VOCABULARY, (count, M)).astype(np.int32),
        target_weights=weights,
        origin=np.full(count, -1, np.int32),
    )


def ict_batch(rng: np.random.Generator, count: int = B) -> IctBatch:
    ids = np.arange(count, dtype=np.int32)
    ids[-1] = 0  # two pseudo-queries of one block
    return IctBatch(query=rows(rng, (count,), QUERY, cls=True), blocks=blocks(rng, (count,)), block_ids=ids)


def question_batch(rng: np.random.Generator, count: int = B) -> QuestionBatch:
    starts = rng.integers(0, 2, (count, K, 2)).astype(np.int32)
    has_answer = rng.random((count, K)) < 0.6
    return QuestionBatch(
        question=rows(rng, (count,), QUERY, cls=True),
        answer_starts=starts,
        answer_stops=starts,
        answer_mask=np.broadcast_to(has_answer[..., None], starts.shape).copy(),
    )


def places(rng: np.random.Generator, count: int = B) -> Occurrences:
    """Draw where masked tokens stand: nowhere for most texts, in one block or more for the others."""
    starts = rng.integers(0, 2, (count, K, 1)).astype(np.int32)
    found = (rng.random((count, K)) < 0.6) & (np.arange(count) % 3 == 1)[:, None]
    found[1, 0] = True
    return Occurrences(starts, starts + 1, found[..., None], found)


def beam(rng: np.random.Generator, batch: QuestionBatch, found: Candidates, others: int = 3) -> Beam:
    """Draw a beam of the candidates and `others` further blocks, with embeddings."""
    count = len(found.is_valid)
    further = rng.random((2, count, others)) < 0.6
    return Beam(
        has_answer=np.concatenate([batch.answer_mask.any(axis=-1), further[0]], axis=1),
        is_valid=np.concatenate([found.is_valid, further[1]], axis=1),
        embeddings=rng.standard_normal((count, K + others, DIMENSION)).astype(np.float32),
    )


def ict_case(models: Models, rng: np.random.Generator):
    """Return (loss, trained parts, inputs) of a phase, as the functions below do."""
    loss = partial(ict_loss, models=models, block_length=TITLE + BODY)
    return loss, ["embedder"], (ict_batch(rng),)


def realm_case(models: Models, rng: np.random.Generator):
    loss = partial(
        realm_loss,
        models=models,
        block_length=TITLE + BODY,
        joint_length=QUERY + BODY,
        marginal_loss=token_loss,
        weigh=retrieval_log_prob,
        span_weight=SPAN_WEIGHT,
    )
    trained = ["embedder", "encoder", *(f"reader/{module}" for module in SPAN_SCORER)]
    return loss, trained, (masked_batch(rng), candidates(rng), places(rng))


def qa_case(models: Models, rng: np.random.Generator):
    loss = partial(
        qa_loss,
        models=models,
        joint_length=QUERY + BODY,
        answer_loss=QA_LOSSES["orqa"],
        relevance=partial(query_side_relevance, models=models),
    )
    batch, found = question_batch(rng), candidates(rng)
    return loss, ["embedder", "reader"], (batch, found, beam(rng, batch, found))


def ict_accumulate(models: Models) -> Accumulate:
    embed = partial(ict_embeddings, models=models, block_length=TITLE + BODY)
    return partial(by_embeddings, embed=embed, contrast=ict_contrast)


ACCUMULATE = {
    "ict": ict_accumulate,
    "realm": lambda models: partial(by_sums, further={"span_loss": SPAN_WEIGHT}),
    "qa": lambda models: by_sums,
}
CASES = {"ict": ict_case, "realm": realm_case, "qa": qa_case}


def leaves(tree) -> dict[str, np.ndarray]:
    """Name every leaf by its path."""
    found = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(leaf) for path, leaf in found}


def random_params(models: Models, *, seed: int = 0):
    """Draw parameters large enough for gradients to be more than rounding; NumPy arrays."""
    shapes = jax.eval_shape(models.init, jax.random.key(0))
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        centre = 1.0 if path[-1].key == "scale" else 0.0
        return (centre + 0.3 * rng.standard_normal(leaf.shape)).astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)
