"""Configs: values are checked when built, unknown ones never pass, JSON gives back what was saved."""

import dataclasses
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.config import (
    BertConfig,
    Config,
    IctConfig,
    IndexConfig,
    MeshConfig,
    ModelConfig,
    OptimizerConfig,
    PhaseConfig,
    QaConfig,
    RealmConfig,
    RefreshConfig,
    ShapeConfig,
    from_dict,
    from_json,
    to_dict,
)
from realm_jax.errors import ConfigError

rates = st.floats(min_value=1e-8, max_value=1.0)
counts = st.integers(min_value=1, max_value=10**6)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    name=st.text(max_size=20),
    steps=counts,
    batch=counts,
    rate=rates,
    loss=st.sampled_from(["marginal", "orqa", "emdr2", "pdist"]),
    heads=st.sampled_from([1, 2, 4]),
    towers=st.booleans(),
    lag=st.integers(1, 500),
)
def test_json_gives_back_what_was_saved(seed, name, steps, batch, rate, loss, heads, towers, lag):
    config = Config(
        seed=seed,
        name=name,
        model=ModelConfig(bert=BertConfig(hidden_size=32 * heads, num_heads=heads), two_towers=towers),
        ict=IctConfig(steps=steps, batch_size=batch, optimizer=OptimizerConfig(learning_rate=rate)),
        qa=QaConfig(loss=loss),
        refresh=RefreshConfig(every=500, adoption="at_lag", lag=lag),
    )
    assert from_json(json.dumps(to_dict(config))) == config


def test_what_is_left_out_takes_its_default():
    assert from_dict(Config, {}) == Config()
    assert from_dict(Config, {"realm": {"steps": 7}}).realm == RealmConfig(steps=7)


def test_whole_numbers_pass_for_floats_and_become_floats():
    rate = from_dict(OptimizerConfig, {"learning_rate": 1}).learning_rate
    assert rate == 1.0 and isinstance(rate, float)


@pytest.mark.parametrize(
    ("values", "where"),
    [
        ({"sead": 0}, "sead"),
        ({"realm": {"stepps": 5}}, "config.realm has the keys"),
        ({"model": {"bert": {"hidden": 5}}}, "config.model.bert has the keys"),
        ({"seed": "0"}, "config.seed must be of type int"),
        ({"seed": 1.5}, "config.seed must be of type int"),
        ({"seed": True}, "config.seed must be of type int"),
        ({"seed": None}, "config.seed must be of type int"),
        ({"corpus": 3}, "config.corpus must be of type str"),
        ({"model": {"two_towers": 1}}, "config.model.two_towers must be of type bool"),
        ({"model": {"bert": {"dropout": "low"}}}, "config.model.bert.dropout must be of type float"),
        ({"model": {"dtype": "float64"}}, "config.model.dtype must be one of float32, bfloat16"),
        ({"refresh": {"worker": ["thread"]}}, "config.refresh.worker must be one of"),
        ({"realm": 5}, "config.realm must be a table"),
    ],
)
def test_unknown_keys_and_wrong_types_are_named(values, where):
    with pytest.raises(ConfigError) as caught:
        from_dict(Config, values)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    ("build", "rule"),
    [
        (lambda: BertConfig(hidden_size=100, num_heads=3), "num_heads must divide"),
        (lambda: BertConfig(dropout=1.0), "dropout must be in"),
        (lambda: ShapeConfig(candidates=1), "candidates must be at least 2"),
        (lambda: ShapeConfig(candidates=0, null_block=False), "candidates must be at least 1"),
        (lambda: ShapeConfig(query_length=96, joint_length=96), "joint_length must exceed"),
        (lambda: RealmConfig(steps=-1), "steps must be at least"),
        (lambda: QaConfig(batch_size=0), "batch_size must be at least 1"),
        (lambda: QaConfig(beam=4, candidates=5, loss="orqa"), "qa.beam is at least qa.candidates"),
        (lambda: QaConfig(beam=5000), "looked at by qa.loss orqa alone"),
        (lambda: QaConfig(beam=50, loss="orqa", retriever="bm25"), "train the model's retriever"),
        (lambda: QaConfig(end_to_end=True, retriever="bm25"), "train the model's retriever"),
        (lambda: IctConfig(log_every=0), "log_every must be at least 1"),
        (lambda: RealmConfig(batch_size=6, microbatches=4), "microbatches must divide batch_size"),
        (lambda: IctConfig(microbatches=0), "microbatches must divide batch_size"),
        (lambda: MeshConfig(fsdp=0), "mesh.fsdp and mesh.tensor must be at least 1"),
        (lambda: IndexConfig(recall_floor=1.1), r"recall_floor must be in \[0, 1\]"),
        (lambda: IndexConfig(recall_floor=-0.1), r"recall_floor must be in \[0, 1\]"),
        (lambda: IndexConfig(recall_floor=math.nan), r"recall_floor must be in \[0, 1\]"),
        (lambda: IctConfig(keep_probability=1.5), "keep_probability must be in"),
        (lambda: RealmConfig(swap_share=80), "swap_share must be in"),
        (lambda: QaConfig(drop_sentences=-1), "drop_sentences must be in"),
        (lambda: IndexConfig(recall_sample=0), "recall_sample must be at least 1"),
        (lambda: BertConfig(num_heads=0), "num_heads must be at least 1"),
        (lambda: ModelConfig(bert=BertConfig(hidden_size=0)), "hidden_size must be at least 1"),
        (lambda: ModelConfig(max_span_width=0), "max_span_width must be at least 1"),
        (lambda: ShapeConfig(max_masks=0), "max_masks must be at least 1"),
        (lambda: OptimizerConfig(learning_rate=-1e-4), "learning_rate must be at least 0"),
        (lambda: OptimizerConfig(learning_rate=math.nan), "learning_rate must be at least 0"),
        (lambda: OptimizerConfig(clip_norm=0.0), "clip_norm must be above 0"),
        (lambda: OptimizerConfig(learning_rate=math.inf), "learning_rate must be at least 0, and finite"),
        (lambda: RefreshConfig(probes=0), "probes must be at least 1"),
        (lambda: RealmConfig(window_steps=2), "evidence_window of at least 2"),
        (lambda: RealmConfig(evidence_window=1), "evidence_window of at least 2"),
        (lambda: Config(realm=RealmConfig(candidates=1)), "realm.candidates must be at least 2"),
        (lambda: Config(read=RealmConfig(candidates=3, evidence_pool=2)), "read.evidence_pool"),
        (lambda: Config(seed=1 << 63), "seed must be at least 0, and below"),
        (lambda: RealmConfig(oversample=0), "oversample must be at least 1"),
        (lambda: RealmConfig(pointing_trains_retriever=True), "needs a span_weight"),
        (lambda: QaConfig(max_answers=0), "max_answers must be at least 1"),
        (lambda: RefreshConfig(retries=-1), "retries must be at least 0"),
        (lambda: Config(seed=-1), "seed must be at least 0"),
        (lambda: RefreshConfig(adoption="at_lag"), "refresh.lag must be between"),
        (lambda: RefreshConfig(adoption="at_lag", every=10, lag=11), "refresh.lag must be between"),
        (lambda: RefreshConfig(worker="submesh"), "refresh.devices is the number"),
        (lambda: RefreshConfig(devices=2), "refresh.devices is the number"),
        (lambda: RefreshConfig(exchange="there"), "refresh.exchange is the folder"),
        (lambda: RefreshConfig(rolling=0), "refresh.rolling is at least 1"),
    ],
)
def test_contradictions_are_refused_when_built(build, rule):
    with pytest.raises(ConfigError, match=rule):
        build()


def test_errors_say_rule_value_and_remedy():
    with pytest.raises(ConfigError) as caught:
        ShapeConfig(candidates=1)
    error = caught.value
    assert (error.got, bool(error.remedy)) == (1, True)
    assert str(error) == f"{error.rule}, but got 1. {error.remedy}"


def parts(kind: type) -> list[type]:
    """List a config class and those of its fields."""
    nested = [f.default_factory for f in dataclasses.fields(kind)]
    inner = [type(make()) for make in nested if make is not dataclasses.MISSING]
    return [kind, *(p for part in inner if dataclasses.is_dataclass(part) for p in parts(part))]


@pytest.mark.parametrize(
    "part", sorted({*parts(Config), PhaseConfig}, key=str), ids=lambda part: part.__name__
)
def test_every_part_is_frozen(part):
    assert part.__dataclass_params__.frozen
