"""What a log line says of speed."""

import dataclasses

import pytest

from realm_jax.config import BertConfig, Config, ModelConfig, QaConfig, RealmConfig, ShapeConfig
from realm_jax.models.flops import embedder_flops
from realm_jax.runs.setup import models_of
from realm_jax.runs.speed import Spent, peak_of_run, step_flops
from realm_jax.runs.trace import WARM, TraceHook


def test_seconds_are_added_by_name_until_they_are_taken():
    now = [0.0]
    spent = Spent(clock=lambda: now[0])
    for name, seconds in (("search", 2.0), ("data", 1.0), ("search", 0.5)):
        with spent.on(name):
            now[0] += seconds
        now[0] += 100.0  # outside
    assert spent.take() == {"search": 2.5, "data": 1.0}
    assert spent.take() == {}
    with pytest.raises(ValueError), spent.on("search"):
        now[0] += 3.0
        raise ValueError
    assert spent.take() == {"search": 3.0}


def test_calls_of_a_function_are_counted():
    now = [0.0]

    def slow(first, second):
        now[0] += 4.0
        return first - second

    spent = Spent(clock=lambda: now[0])
    timed = spent.timed("inputs", slow)
    assert timed(7, 2) + timed(1, 1) == 5 and spent.take() == {"inputs": 8.0}


def test_the_wait_for_each_item_is_counted_and_the_work_on_it_is_not():
    now = [0.0]

    def slow():
        for item in "abc":
            now[0] += 2.0
            yield item

    spent, seen = Spent(clock=lambda: now[0]), []
    for item in spent.waiting("data", slow()):
        seen.append(item)
        now[0] += 50.0
    assert seen == ["a", "b", "c"] and spent.take() == {"data": 6.0}


def test_a_device_that_is_not_known_has_no_peak():
    assert peak_of_run(None) == 0.0


def paper(**changes):
    """REALM's own sizes."""
    shapes = ShapeConfig(query_length=96, block_length=288, joint_length=384)
    return Config(
        model=ModelConfig(bert=BertConfig(), vocab_size=30_522),
        shapes=shapes,
        realm=RealmConfig(batch_size=512, **changes),
    )


def test_a_step_of_the_paper():
    """By hand; three times forward.

    All L tokens ask in eleven layers: 8 L H^2 + 4 L^2 H + 4 L H I. In the last P do, [CLS] or what is masked:
    4 P H^2 + 4 P H I, and without keys and values of the others 4 P H (H + heads L + 1).
    """

    def asked(asking):
        return 4 * asking * 768**2 + 4 * asking * 768 * 3072

    def layer(length):
        return asked(length) + 4 * length * 768**2 + 4 * length**2 * 768

    def bert(length, wanted):
        return 11 * layer(length) + asked(wanted) + 4 * wanted * 768 * (768 + 12 * length + 1)

    head, embedding = 10 * 2 * 768 * (768 + 30_522), 2 * 768 * (768 + 128)
    rows = 512 * 8
    queries, blocks = 512 * (bert(96, 1) + embedding), rows * (bert(288, 1) + embedding)
    expected = queries + blocks + rows * (bert(384, 10) + head)
    config = paper()
    assert step_flops(config, "realm", models_of(config)) == 3 * expected
    assert 1.3e15 < 3 * expected < 1.5e15
    config = paper(weights="uniform")
    assert step_flops(config, "realm", models_of(config)) == 3 * rows * (bert(384, 10) + head)
    pointing = 384 * 4 * 768 * 256 + sum(384 - width for width in range(10)) * 2 * 256
    config = paper(weights="uniform", span_weight=0.5)
    assert step_flops(config, "realm", models_of(config)) == 3 * rows * (12 * layer(384) + head + pointing)


def test_fine_tuning_counts_what_it_trains_of_the_retriever():
    def flops(**changes):
        config = Config(model=ModelConfig(vocab_size=30_522), qa=QaConfig(**changes))
        return step_flops(config, "qa", models_of(config))

    queries = embedder_flops(models_of(paper()).embedder, rows=16, length=96)
    blocks = embedder_flops(models_of(paper()).embedder, rows=16 * 5, length=312)
    assert flops() - flops(retriever="bm25") == 3 * queries
    assert flops(end_to_end=True) - flops() == 3 * blocks


def test_rows_of_every_phase_count():
    config = paper()
    models = models_of(config)
    for phase in ("ict", "read", "realm", "qa"):
        settings = getattr(config, phase)
        half = dataclasses.replace(
            config, **{phase: dataclasses.replace(settings, batch_size=settings.batch_size // 2)}
        )
        assert step_flops(config, phase, models) == 2 * step_flops(half, phase, models) > 0


def test_steps_are_recorded_after_the_first_have_compiled(monkeypatch, tmp_path):
    told = []
    monkeypatch.setattr("jax.profiler.start_trace", lambda folder: told.append(("start", folder)))
    monkeypatch.setattr("jax.profiler.stop_trace", lambda: told.append(("stop",)))

    def run(*, done, steps, last):
        told.clear()
        hook = TraceHook(tmp_path, done=done, steps=steps)
        for step in range(done + 1, last + 1):
            told.append(step)
            hook(step, None, {})
        hook.close()
        return list(told)

    start, stop = ("start", tmp_path), ("stop",)
    assert WARM == 2
    assert run(done=10, steps=2, last=15) == [11, 12, start, 13, 14, stop, 15]
    assert run(done=0, steps=5, last=4) == [1, 2, start, 3, 4, stop]  # the run ends first
    assert run(done=0, steps=0, last=4) == [1, 2, 3, 4]
