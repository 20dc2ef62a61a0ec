"""Run one training phase: start or resume, loop, log, checkpoint."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import optax
from jax.sharding import Mesh

from realm_jax.config import Config, PhaseConfig, to_dict
from realm_jax.errors import CheckpointError
from realm_jax.hosts.meeting import is_first
from realm_jax.loop import Hook, StopOnSignal, StopTogether, train
from realm_jax.progress import Reporter, SilentReporter, reporter
from realm_jax.runs.ahead import Batches
from realm_jax.runs.setup import save_config
from realm_jax.runs.speed import Spent, peak_of_run
from realm_jax.runs.trace import TraceHook
from realm_jax.train.accumulate import Accumulate, by_sums
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.compile import Step, make_step
from realm_jax.train.metrics import MetricsWriter, NoMetrics, Writer, check_finite, means
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.sharding import make_sharded
from realm_jax.train.state import Metrics, TrainState, create_state
from realm_jax.types import Params

TRACE_FOLDER = "trace"  # in a run folder
ELSEWHERE = ("worker", "devices", "exchange", "silence_seconds")  # of `refresh`: who does it, and where
# What a run goes on with is known by what is in it (streams and indexes say so), not by where it lies.
PLACES = ("corpus", "text", "train_questions", "dev_questions")


class LogHook:
    """Average the metrics of the steps since the last line; write, show and check them.

    Args:
      every: steps between lines; the first and the last step always log.
      last: number of the last step.
      writer: where values go.
      progress: shows them to a person.
      extra: more values to log, such as staleness.
      flops: FLOPs of a step; 0: not known.
      peak: FLOP/s of all devices of the run; 0: not known.
      spent: seconds of the host since the last line, by what they were spent on.
      clock: seconds now.
    """

    def __init__(
        self,
        *,
        every: int,
        last: int,
        writer: Writer,
        progress: Reporter,
        extra: Callable[[int], Mapping[str, float]],
        flops: int = 0,
        peak: float = 0.0,
        spent: Callable[[], Mapping[str, float]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._every, self._last, self._writer, self._progress = every, last, writer, progress
        self._extra, self._clock = extra, clock
        self._flops, self._peak, self._spent = flops, peak, spent
        self._waiting: list[Metrics] = []
        self._since = clock()
        self.latest: dict[str, float] = {}

    def __call__(self, step: int, state: TrainState, metrics: Metrics) -> None:
        """Keep the metrics on the device until it is time for a line."""
        del state
        self._waiting.append(metrics)
        if step % self._every and step != self._last and self.latest:
            return
        values = means(self._waiting)
        now = self._clock()
        values |= self._speed((now - self._since) / len(self._waiting))
        values |= self._extra(step)
        first_step = step - len(self._waiting) + 1
        self._waiting, self._since, self.latest = [], now, values
        self._writer.write(step, values)
        shown = ("loss", "accuracy", "retrieval_utility", "answerable", "staleness_steps")
        self._progress.update(step, " ".join(f"{k}={values[k]:.3f}" for k in shown if k in values))
        check_finite(values, first_step=first_step, last_step=step)

    def _speed(self, seconds: float) -> dict[str, float]:
        """Say how long a step took, how much of it the host waited or searched, and how fast that was."""
        spent = {f"{name}_seconds": total / len(self._waiting) for name, total in self._spent().items()}
        rate = self._flops / seconds if seconds else 0.0
        values = {"step_seconds": seconds, **spent}
        if rate:
            values["model_flops_per_second"] = rate
        if rate and self._peak:
            values["peak_share"] = rate / self._peak
        return values


@dataclass(frozen=True)
class Phase:
    """What one phase hands to the loop.

    Attributes:
      name: `ict`, `read`, `realm` or `qa`.
      settings: steps, batch size, optimiser, logging.
      loss: `(params, key, *inputs) -> (loss, metrics)`, its keywords bound.
      learning_rates: of each trained part, by name.
      stream: of batches.
      inputs: `(steps done, params, batch)` to the loss's inputs.
      hooks: run after each step, before logging.
      flops: FLOPs of a step.
      spent: where seconds of the host are noted.
      accumulate: how the gradients of microbatches become that of a batch.
      retrieve: finds the loss's inputs inside the step, see `make_step`; None: they are `inputs`.
      extra: more values to log.
      record: more values for the checkpoint's record.
      pending: the snapshot of a refresh in flight, for the checkpoint.
    """

    name: str
    settings: PhaseConfig
    loss: Callable[..., tuple[jax.Array, Metrics]]
    learning_rates: Mapping[str, float]
    stream: Batches
    inputs: Callable[[int, Params, Any], tuple]
    hooks: Sequence[Hook] = ()
    flops: int = 0
    spent: Spent = field(default_factory=Spent)
    accumulate: Accumulate = by_sums
    retrieve: Callable[..., tuple] | None = None
    extra: Callable[[int], Mapping[str, float]] = lambda step: {}
    record: Callable[[], Mapping[str, Any]] = dict
    pending: Callable[[], Params | None] = lambda: None


def read_record(workdir: Path) -> dict[str, Any] | None:
    """Return the record of the newest checkpoint of a run, None if it has none yet."""
    if not (workdir / "checkpoints").is_dir():
        return None
    checkpoints = Checkpoints(workdir)
    return checkpoints.record() if checkpoints.latest() is not None else None


def phase_optimizer(
    settings: PhaseConfig, learning_rates: Mapping[str, float]
) -> optax.GradientTransformation:
    """Make the optimiser of a phase, for the parts that have a learning rate."""
    return make_optimizer(
        learning_rates=learning_rates,
        steps=settings.steps,
        warmup=settings.optimizer.warmup_steps,
        weight_decay=settings.optimizer.weight_decay,
        clip_norm=settings.optimizer.clip_norm,
    )


def make_phase_step(
    settings: PhaseConfig,
    params: Params,
    *,
    loss: Callable[..., tuple[jax.Array, Metrics]],
    learning_rates: Mapping[str, float],
    accumulate: Accumulate,
    retrieve: Callable[..., tuple] | None,
    config: Config,
    mesh: Mesh | None,
) -> tuple[Callable[[Params], TrainState], Step]:
    """Build what a phase starts from and the step it takes.

    Args:
      settings: of the phase.
      params: all parts, by name, or their shapes.
      loss, learning_rates, accumulate, retrieve: as in `Phase`.
      config: the experiment.
      mesh: the devices; None is the default device.

    Returns:
      The function from parameters to the first state, and the step.
    """
    trained = list(learning_rates)
    optimizer = phase_optimizer(settings, learning_rates)
    start = partial(create_state, optimizer=optimizer, trained=trained, seed=config.seed)
    step = make_step(
        loss,
        optimizer=optimizer,
        trained=trained,
        dropout=max(config.model.bert.dropout, config.model.retriever_bert.dropout) > 0,
        microbatches=settings.microbatches,
        accumulate=accumulate,
        retrieve=retrieve,
        mesh=mesh,
        state=jax.eval_shape(start, params),
    )
    return start, step


def run_phase(
    phase: Phase,
    params: Params,
    *,
    config: Config,
    workdir: Path,
    stop_at: int | None = None,
    mesh: Mesh | None = None,
    trace_steps: int = 0,
) -> dict[str, float]:
    """Train a phase to its end, resuming from the newest checkpoint in its folder.

    Args:
      phase: what to train.
      params: where to start from if there is no checkpoint; all parts, by name.
      config: the resolved config, for the record.
      workdir: folder of the run.
      stop_at: stop after this step although the phase is longer; the schedule stays that of the whole phase.
        0 saves the parameters as they are.
      mesh: the devices; None is the default device.
      trace_steps: steps recorded by the profiler, in the folder `trace`.

    Returns:
      The last logged values.

    Raises:
      CheckpointError: the folder belongs to another phase, or the config changed.
      TrainingError: a metric is not finite.
    """
    settings = phase.settings
    start, step_fn = make_phase_step(
        settings,
        params,
        loss=phase.loss,
        learning_rates=phase.learning_rates,
        accumulate=phase.accumulate,
        retrieve=phase.retrieve,
        config=config,
        mesh=mesh,
    )
    state = make_sharded(start, params, mesh=mesh)
    checkpoints = Checkpoints(workdir, keep=settings.keep_checkpoints)
    if checkpoints.latest() is not None:
        record = checkpoints.record()
        check_same_run(record, name=phase.name, config=config)
        state = checkpoints.restore(state)
        phase.stream.set_state(record["data"])
        if is_first():
            print(f"{phase.name}: resuming at step {int(state.step)} of {settings.steps}", flush=True)

    if is_first():
        save_config(config, workdir)

    newest: list[tuple[int, Metrics]] = []

    def save(state: TrainState) -> None:
        for step, metrics in newest:  # whatever is logged when: what has diverged replaces no checkpoint
            check_finite(means([metrics]), first_step=step, last_step=step)
        own = {"phase": phase.name, "config": to_dict(config), "data": phase.stream.get_state()}
        checkpoints.save(state, record={**own, **phase.record()}, pending=phase.pending())

    def checkpoint_hook(step: int, state: TrainState, metrics: Metrics) -> None:
        newest[:] = [(step, metrics)]
        if step % settings.checkpoint_every == 0:
            save(state)

    last = settings.steps if stop_at is None else min(settings.steps, stop_at)
    writer = MetricsWriter(workdir, done=int(state.step)) if is_first() else NoMetrics()
    shown = reporter(phase.name, last, start=int(state.step)) if is_first() else SilentReporter()
    stop = StopOnSignal() if jax.process_count() == 1 else StopTogether(int(state.step))
    with shown as progress, stop as should_stop, checkpoints, closing(writer):
        log = LogHook(
            every=settings.log_every,
            last=last,
            writer=writer,
            progress=progress,
            extra=phase.extra,
            flops=phase.flops,
            peak=peak_of_run(mesh),
            spent=phase.spent.take,
        )
        recorded = trace_steps if is_first() else 0
        with closing(TraceHook(workdir / TRACE_FOLDER, done=int(state.step), steps=recorded)) as trace:
            state = train(
                state,
                stream=phase.spent.waiting("data", phase.stream),
                inputs=phase.spent.timed("inputs", phase.inputs),
                step_fn=step_fn,
                hooks=[*phase.hooks, log, trace, checkpoint_hook],
                stop_at=last,
                should_stop=should_stop,
            )
        save(state)
        stopped = should_stop()
    if stopped:
        raise SystemExit(f"{phase.name}: stopped at step {int(state.step)}; run the command again to resume")
    return log.latest


def check_same_run(record: Mapping[str, Any], *, name: str, config: Config) -> None:
    """Refuse to resume a run of another phase or config.

    Raises:
      CheckpointError: names the first value that differs.
    """
    if record["phase"] != name:
        raise CheckpointError(
            "a run folder holds one phase",
            got=f"a checkpoint of {record['phase']} for {name}",
            remedy="Give every phase a folder of its own.",
        )
    saved, wanted = (json.loads(json.dumps(tree)) for tree in (record["config"], to_dict(config)))
    # A value that came into being after the run was started had its default.
    saved = _with_defaults(saved, to_dict(Config()))
    for values in (saved, wanted):  # a run may go on elsewhere: where it is computed is not what is computed
        for name in ("mesh", *PLACES):
            values.pop(name, None)
        for name in ELSEWHERE:
            values.get("refresh", {}).pop(name, None)
    different = sorted(_differences(saved, wanted))
    if different:
        raise CheckpointError(
            "a run resumes with the config it was started with",
            got=f"other values of {', '.join(different)}",
            remedy="Restore those values, or train in a new folder with --start-from.",
        )


def _with_defaults(values: Any, defaults: Any) -> Any:
    if not (isinstance(values, dict) and isinstance(defaults, dict)):
        return values
    return {**defaults, **{k: _with_defaults(value, defaults.get(k)) for k, value in values.items()}}


def _differences(saved: Any, wanted: Any, where: str = "") -> list[str]:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        keys = {*saved, *wanted}
        return [
            d for k in keys for d in _differences(saved.get(k), wanted.get(k), f"{where}.{k}".lstrip("."))
        ]
    return [] if saved == wanted else [where]
