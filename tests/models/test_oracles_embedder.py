"""Embedder and scorer against the oracles: states, embeddings, scores, gradients by every parameter."""

from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.ops.relevance import relevance_score
from realm_jax.types import Params
from tests.models.oracle import PRECISION, Oracle, close, load_oracle


@pytest.fixture(autouse=True)
def full_precision() -> Iterator[None]:
    with jax.default_matmul_precision(PRECISION):
        yield


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return load_oracle("embedder", tmp_path_factory.mktemp("oracle"))


@pytest.mark.parametrize("case", ["masked", "ids_only"])
def test_embedder_states_and_embeddings(embedder: Oracle, case: str) -> None:
    tokens = embedder.tokens(f"{case}/inputs/")
    module, params = embedder.models.embedder, {"params": embedder.params["embedder"]}
    run = jax.jit(
        lambda params, x: module.apply(params, x, method=lambda self, x: self.bert.hidden_states(x))
    )
    states = run(params, tokens)
    assert len(states) == embedder.about["config"]["num_hidden_layers"] + 1
    for place, state in enumerate(states):
        close(state, embedder[f"{case}/outputs/hidden_{place}"])
    pooled = module.apply(params, states[-1], tokens.mask, method=lambda self, h, m: self.pool(h, m))
    close(pooled, embedder[f"{case}/outputs/pooled"])
    close(
        jax.jit(embedder.models.embed_query)(embedder.params, tokens),
        embedder[f"{case}/outputs/projected_score"],
    )


def test_embedder_gradients(embedder: Oracle) -> None:
    tokens, models = embedder.tokens("masked/inputs/"), embedder.models
    cotangent = jnp.asarray(embedder["masked/inputs/cotangent"])

    def weighted(params: Params) -> jax.Array:
        return jnp.sum(models.embed_block(params, tokens) * cotangent)

    embedder.check_gradients(jax.jit(jax.grad(weighted))(embedder.params), case="masked/")


@pytest.mark.parametrize("name", ["scorer", "scorer_two_towers"])
def test_scorer(name: str, tmp_path: Path) -> None:
    oracle = load_oracle(name, tmp_path)
    models = oracle.models
    assert models.two_towers == (name == "scorer_two_towers")
    query, candidates = oracle.tokens("inputs/"), oracle.tokens("inputs/candidate_")
    cotangent = jnp.asarray(oracle["inputs/cotangent"])

    def scores(params: Params) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        queries, blocks = models.embed_query(params, query), models.embed_block(params, candidates)
        score = relevance_score(queries, blocks)
        return jnp.sum(score * cotangent), (score, queries, blocks)

    gradients, (score, queries, blocks) = jax.jit(jax.grad(scores, has_aux=True))(oracle.params)
    close(score, oracle["outputs/relevance_score"])
    close(queries, oracle["outputs/query_score"])
    close(blocks, oracle["outputs/candidate_score"])
    oracle.check_gradients(gradients)


def test_wrong_conventions_are_seen(embedder: Oracle) -> None:
    """The tolerance tells tanh from erf in the GELU, the smallest of the differences the oracles name."""
    tokens = embedder.tokens("masked/inputs/")
    module = embedder.models.embedder
    other = module.clone(bert=module.bert.clone(activation="gelu"))
    got = np.asarray(jax.jit(other.apply)({"params": embedder.params["embedder"]}, tokens))
    with pytest.raises(AssertionError, match="off by"):
        close(got, embedder["masked/outputs/projected_score"])
