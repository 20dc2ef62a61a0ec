"""Counts against the real model's, and times against arithmetic by hand."""

import json

import jax
import numpy as np
import pytest

from realm_jax.models.flops import TRAINED
from realm_jax.plan.compiled import lower_step
from realm_jax.plan.estimate import Assumptions, chips_for, estimate, refresh_steps
from realm_jax.runs.realm import objective
from tests.models.test_flops import traced
from tests.plan.small import CANDIDATES, paper_job, small_job

HALF = Assumptions(step_share=0.5, embedding_share=0.5, refresh_steps=500)
BERT_BASE = 109_482_240  # bert-base-uncased as published, its pooler included
POOLER = 768 * 768 + 768


@pytest.fixture(scope="module")
def paper():
    return estimate(paper_job("v5e:8x8", realm={"rematerialisation": "full"}), HALF)


def test_parameters_are_those_of_the_published_models(paper):
    projection, norm = 768 * 128 + 128, 2 * 128
    head = 768 * 768 + 768 + 2 * 768 + 30_522  # transform, its LayerNorm, a bias a word
    assert paper.parameters["embedder"] == BERT_BASE + projection + norm
    assert paper.parameters["encoder"] == BERT_BASE - POOLER + head
    assert paper.trained == paper.parameters["embedder"] + paper.parameters["encoder"]


def test_flops_of_a_step_are_those_of_the_products_of_the_real_step():
    """Every product of loss and gradient, counted in the program; beside the models there are the scores."""
    job = small_job("v6e:1x1", index={"engine": "exact"})
    what = objective(job.config, "realm", job.models, count=job.corpus.blocks, mesh=None)
    batch = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), job.batch)
    found = traced(jax.grad(lambda params: what["loss"](params, None, *batch)[0]), job.params)
    scores = TRAINED * 2 * 16 * CANDIDATES * 8  # 16 texts, vectors of 8
    assert found == estimate(job, HALF).step_flops + scores


def test_times_by_hand(paper):
    """v5e:8x8: 64 chips of 197 TFLOP/s, half of which is reached."""

    def asked(asking):  # queries, outputs and feed-forward of those that ask
        return 4 * asking * 768**2 + 4 * asking * 768 * 3072

    def bert(length, wanted):
        layer = asked(length) + 4 * length * 768**2 + 4 * length * length * 768  # keys and values of all
        # For the few of the last layer none: their 12 heads multiply kernels, states and a bias.
        return 11 * layer + asked(wanted) + 4 * wanted * 768 * (768 + 12 * length + 1)

    embedding, head = 2 * 768 * (768 + 128), 10 * 2 * 768 * (768 + 30_522)
    block = bert(288, 1) + embedding
    step = 3 * (512 * (bert(96, 1) + embedding) + 4096 * (block + bert(384, 10) + head))
    search = 2 * 512 * 13_353_718 * 128
    rate = 64 * 197e12 / 2
    assert (paper.step_flops, paper.search_flops) == (step, search)
    assert paper.step_seconds == pytest.approx((step + search) / rate)
    assert 0.18 < paper.step_seconds < 0.25
    fresh = paper.refreshing
    assert fresh.flops == 13_353_718 * block
    # A thread shares the devices: it takes twice as long, and as many steps as if it had them to itself.
    assert fresh.seconds == pytest.approx(2 * fresh.flops / rate)
    assert fresh.steps == pytest.approx(fresh.flops / (step + search))
    assert fresh.period == 500 and fresh.steps < 500
    assert fresh.staleness == pytest.approx((fresh.steps, fresh.steps + 250, fresh.steps + 500))
    assert paper.run_seconds == pytest.approx(200_000 * paper.step_seconds + 400 * fresh.flops / rate)
    trained = paper.trained
    assert paper.exchange_seconds == pytest.approx(2 * 4 * trained / 200e9)


def test_the_index_and_the_tokens_of_wikipedia_are_small_on_a_slice(paper):
    rows = 13_353_718 / 64
    assert paper.memory.index == pytest.approx(rows * 128 * 2, rel=0.01)
    assert paper.memory.tokens == pytest.approx(rows * (2 * (3 + 288 + 2) + 4), rel=0.01)
    assert paper.host_embeddings == 13_353_718 * 128 * 4


def test_more_chips_make_a_refresh_shorter_in_steps():
    sizes = {"refresh_flops": 5e17, "step_flops": 1e15, "speedup": 1.25}
    assert refresh_steps(**sizes, training=48, embedding=16) == 5e17 * 48 / (1e15 * 16 * 1.25)
    # 400 embedding steps a chip's share: r chips of n take 400 (n - r) / r steps.
    assert chips_for(500, **sizes, chips=64, within=True) == round(64 * 0.8 / 1.8) == 28
    assert refresh_steps(**sizes, training=36, embedding=28) == pytest.approx(500, rel=0.05)
    assert chips_for(500, **sizes, chips=64, within=False) == round(0.8 * 64) == 51
    assert chips_for(1e9, **sizes, chips=64, within=True) == 1
    assert chips_for(1e-9, **sizes, chips=64, within=True) == 63


def test_who_refreshes_and_when_it_is_adopted_decide_the_staleness():
    def fresh(**refresh):
        return estimate(small_job(blocks=50_000, refresh={"every": 10, **refresh}), HALF)

    thread, inline = fresh(), fresh(worker="inline")
    steps = thread.refreshing.steps
    assert thread.refreshing.period == 10 * np.ceil(steps / 10) > 10
    assert thread.refreshing.staleness[0] == steps
    assert inline.refreshing.staleness == (0, 5, 10) and inline.refreshing.period == 10
    assert thread.run_seconds == pytest.approx(
        1000 * thread.step_seconds * (1 + steps / thread.refreshing.period)
    )
    lag = fresh(adoption="at_lag", lag=4).refreshing
    assert lag.staleness == (4, 9, 14)
    own = fresh(worker="submesh", devices=4, every=500)
    assert own.job.training == 4 and own.run_seconds == 1000 * own.step_seconds
    assert own.refreshing.steps == pytest.approx(steps)  # 4 for 4 as 8 for 8
    assert fresh(every=0).refreshing is None
    assert estimate(small_job(phase="ict"), HALF).refreshing is None


def test_a_step_too_large_for_its_chip_is_said_to_be(paper):
    assert paper.fits
    whole = estimate(paper_job("v5e:1x1"), HALF)
    assert not whole.fits and not any(one.fits for one in whole.alternatives if one.microbatches == 1)
    said = json.loads(json.dumps(whole.to_json()))
    assert said["fits"] is False and said["chip_bytes"]["total"] == whole.memory.total


def test_flops_the_compiler_counts_are_not_fewer():
    """The compiler adds what is no matrix product, which in a model this small is much."""
    job = small_job("v5e:2x4", index={"engine": "exact"}, mesh={"data": 1})
    compiled = lower_step(job, jax.devices()).compile()
    counted = estimate(job, HALF).step_flops
    assert counted < compiled.cost_analysis()["flops"] < 5 * counted
