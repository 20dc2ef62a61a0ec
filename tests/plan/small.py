"""Jobs of small models, and of the paper's."""

import dataclasses

from realm_jax.config import (
    BertConfig,
    Config,
    IctConfig,
    IndexConfig,
    ModelConfig,
    QaConfig,
    RealmConfig,
    ShapeConfig,
)
from realm_jax.plan.corpus_size import corpus_size
from realm_jax.plan.job import Job, make_job
from realm_jax.plan.topology import parse_topology

HIDDEN, INNER, LAYERS, VOCABULARY = 16, 24, 2, 48
QUERY, BLOCK, JOINT, MASKS, CANDIDATES = 8, 12, 16, 2, 3


def small_config(**parts) -> Config:
    """A config of two small layers, in bfloat16; keywords replace values of its parts."""
    bert = BertConfig(
        hidden_size=HIDDEN, num_layers=LAYERS, num_heads=2, intermediate_size=INNER, max_positions=32
    )
    made = Config(
        model=ModelConfig(bert=bert, vocab_size=VOCABULARY, embedding_size=8, dtype="bfloat16"),
        shapes=ShapeConfig(
            query_length=QUERY,
            block_length=BLOCK,
            joint_length=JOINT,
            max_masks=MASKS,
            candidates=CANDIDATES,
        ),
        ict=IctConfig(batch_size=16),
        realm=RealmConfig(batch_size=16, steps=1000),
        qa=QaConfig(batch_size=16),
        index=IndexConfig(engine="fused", storage="bfloat16"),
    )
    return dataclasses.replace(
        made, **{name: dataclasses.replace(getattr(made, name), **values) for name, values in parts.items()}
    )


def small_job(topology: str = "v5e:2x4", *, phase: str = "realm", blocks: int = 1000, **parts) -> Job:
    """A job of `small_config`."""
    config = small_config(**parts)
    return make_job(config, phase, parse_topology(topology), corpus_size(config, blocks=blocks))


def paper_job(topology: str, **parts) -> Job:
    """The paper's pre-training, retrieval fused into the step."""
    config = Config(
        model=ModelConfig(dtype="bfloat16"),
        shapes=ShapeConfig(query_length=96, block_length=288, joint_length=384),
        index=IndexConfig(engine="fused", storage="bfloat16"),
    )
    config = dataclasses.replace(
        config,
        **{name: dataclasses.replace(getattr(config, name), **values) for name, values in parts.items()},
    )
    return make_job(config, "realm", parse_topology(topology), corpus_size(config))
