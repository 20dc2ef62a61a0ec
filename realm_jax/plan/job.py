"""The run that is planned: the shapes of its state, inputs and store, on devices that are not there."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType

from realm_jax.config import Config, PhaseConfig
from realm_jax.data.questions import Occurrences
from realm_jax.mesh import AXES, batch_shards, mesh_sizes
from realm_jax.models.build import Models
from realm_jax.plan.corpus_size import CorpusSize
from realm_jax.plan.topology import Topology
from realm_jax.runs.fused import check_fused, is_fused
from realm_jax.runs.ict import ict_objective
from realm_jax.runs.phase import phase_optimizer
from realm_jax.runs.qa_retriever import retriever_rates
from realm_jax.runs.realm import learning_rates
from realm_jax.runs.setup import candidates_read, check_layout, models_of, training_devices
from realm_jax.train.fused import FusedStore, store_shapes
from realm_jax.train.state import TrainState, create_state
from realm_jax.types import Beam, Blocks, Candidates, IctBatch, MaskedBatch, Params, QuestionBatch, Rows

PHASES = ("ict", "read", "realm", "qa")


@dataclass(frozen=True)
class Job:
    """A phase of an experiment on a topology.

    Attributes:
      config: the experiment, its vocabulary filled in.
      phase: one of `PHASES`.
      topology: the devices.
      corpus: how large the corpus is.
      training: devices that train; the others only embed.
      mesh: of the devices that train; None is a single one.
    """

    config: Config
    phase: str
    topology: Topology
    corpus: CorpusSize
    training: int
    mesh: AbstractMesh | None

    @property
    def settings(self) -> PhaseConfig:
        return getattr(self.config, self.phase)

    @property
    def shards(self) -> int:
        """Parts a batch is split into."""
        return batch_shards(self.mesh)

    @property
    def axis_sizes(self) -> dict[str, int]:
        """Devices along each axis of the mesh; 1 where a single one trains."""
        return dict(zip(AXES, self.mesh.axis_sizes if self.mesh else (1,) * len(AXES), strict=True))

    @property
    def is_fused(self) -> bool:
        return is_fused(self.config, self.phase)

    @cached_property
    def models(self) -> Models:
        return models_of(self.config, rematerialisation=self.settings.rematerialisation)

    @cached_property
    def params(self) -> Params:
        """Shapes of all parameters."""
        return jax.eval_shape(self.models.init, jax.random.key(0))

    @cached_property
    def rates(self) -> Mapping[str, float]:
        """Learning rates of what is trained."""
        config, models = self.config, self.models
        if self.phase == "ict":
            return ict_objective(config, models)["learning_rates"]
        if self.phase == "qa":
            return {**retriever_rates(config.qa, models), "reader": config.qa.optimizer.learning_rate}
        return learning_rates(getattr(config, self.phase), models)

    @cached_property
    def state(self) -> TrainState:
        """Shapes of the training state."""
        optimizer = phase_optimizer(self.settings, self.rates)
        start = partial(create_state, optimizer=optimizer, trained=list(self.rates), seed=self.config.seed)
        return jax.eval_shape(start, self.params)

    @property
    def embedding_size(self) -> int:
        """Dimension of the index."""
        return self.config.model.embedding_size or self.config.model.retriever_bert.hidden_size

    def store(self, mesh: Any) -> FusedStore:
        """Return the shapes of the index and the tokens, laid out on a mesh."""
        return store_shapes(
            self.corpus.blocks,
            dimension=self.embedding_size,
            title_width=self.corpus.title_width,
            body_width=self.corpus.body_width,
            storage=self.config.index.storage,
            tokens=self.corpus.token_dtype,
            mesh=mesh,
        )

    @cached_property
    def batch(self) -> tuple:
        """Shapes of the inputs of the loss."""
        shapes, rows = self.config.shapes, self.settings.batch_size
        query = _rows(rows, width=shapes.query_length)
        if self.phase == "ict":
            return (IctBatch(query=query, blocks=self._blocks(rows), block_ids=_int32(rows)),)
        if self.phase == "qa":
            return self._questions(query)
        settings = getattr(self.config, self.phase)
        batch = MaskedBatch(
            query=query,
            target_positions=_int32(rows, shapes.max_masks),
            target_ids=_int32(rows, shapes.max_masks),
            target_weights=jax.ShapeDtypeStruct((rows, shapes.max_masks), jnp.float32),
            origin=_int32(rows),
        )
        read = (rows, candidates_read(self.config, self.phase))
        candidates = self._candidates(*read)
        if not settings.span_weight:
            return batch, candidates
        one = (*read, 1)  # the first place in a body
        return batch, candidates, Occurrences(_int32(*one), _int32(*one), _flags(*one), _flags(*read))

    def step_inputs(self, mesh: Any) -> tuple:
        """Return the shapes of what the loop hands to the step."""
        return (self.store(mesh), self.batch[0]) if self.is_fused else self.batch

    def changed(self, *, mesh: Mapping[str, int] | None = None, **settings: Any) -> "Job":
        """Return the job with other values of its phase, or sizes of its mesh.

        Raises:
          ConfigError: they do not fit.
        """
        parts: dict[str, Any] = {
            self.phase: dataclasses.replace(self.settings, **settings),
            "mesh": dataclasses.replace(self.config.mesh, **(mesh or {})),
        }
        config = dataclasses.replace(self.config, **parts)
        return make_job(config, self.phase, self.topology, self.corpus)

    def _questions(self, asked: Rows) -> tuple[QuestionBatch, Candidates, Beam]:
        settings, rows = self.config.qa, self.settings.batch_size
        read, beam = (rows, settings.candidates), (rows, max(settings.beam, settings.candidates))
        places = (*read, settings.max_answers)
        batch = QuestionBatch(
            question=asked,
            answer_starts=_int32(*places),
            answer_stops=_int32(*places),
            answer_mask=_flags(*places),
            asked=asked,
        )
        trained = settings.retriever == "model"
        shape = (*beam, self.embedding_size) if trained else beam
        of_index = jax.ShapeDtypeStruct(shape, jnp.float32)
        values = {"embeddings": of_index} if trained else {"scores": of_index}
        return batch, self._candidates(*read), Beam(_flags(*beam), _flags(*beam), **values)

    def _candidates(self, *shape: int) -> Candidates:
        return Candidates(
            block_ids=_int32(*shape),
            blocks=self._blocks(*shape),
            is_null=_flags(*shape),
            is_valid=_flags(*shape),
        )

    def _blocks(self, *shape: int) -> Blocks:
        return Blocks(
            title=_rows(*shape, width=self.corpus.title_width),
            body=_rows(*shape, width=self.corpus.body_width),
        )


def make_job(config: Config, phase: str, topology: Topology, corpus: CorpusSize) -> Job:
    """Lay a phase out on a topology, with the checks that the run would make.

    Args:
      config: the experiment.
      phase: one of `PHASES`.
      topology: the devices.
      corpus: how large the corpus is.

    Raises:
      ConfigError: mesh, batch or settings do not fit.
    """
    two_towers = config.model.two_towers or phase == "qa"
    model = dataclasses.replace(config.model, vocab_size=corpus.vocab_size, two_towers=two_towers)
    config = dataclasses.replace(config, model=model)
    if is_fused(config, phase):
        check_fused(getattr(config, phase), phase_name=phase)
    training = training_devices(config, phase, topology.chips)
    sizes = mesh_sizes(**dataclasses.asdict(config.mesh), count=training)
    used = sizes[0] * sizes[1] * sizes[2]
    mesh = None if used == 1 else AbstractMesh(sizes, AXES, axis_types=(AxisType.Auto,) * 3)
    check_layout(config, phase, mesh, embedders=topology.chips - training)
    return Job(config, phase, topology, corpus, used, mesh)


def _int32(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _flags(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, bool)


def _rows(*shape: int, width: int) -> Rows:
    return Rows(ids=_int32(*shape, width), length=_int32(*shape))
