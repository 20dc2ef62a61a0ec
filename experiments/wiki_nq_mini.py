"""A small REALM on 38,521 passages of Wikipedia, on two CPU cores.

Source: the quickstart's schedule on real text; the passages and questions of Natural Questions and SQuAD in
  a folder with corpus.jsonl.gz, qa_train.jsonl and qa_dev.jsonl.
Expected: what docs/RESULTS.md records beside BM25, whatever it is; the budget is far too small to beat it.
Cost: docs/RESULTS.md names the minutes of each phase.
Command: bash experiments/wiki_nq_mini.sh FOLDER
"""

from realm_jax.config import (
    BertConfig,
    Config,
    IctConfig,
    IndexConfig,
    ModelConfig,
    OptimizerConfig,
    QaConfig,
    RealmConfig,
    RefreshConfig,
    ShapeConfig,
)


def config() -> Config:
    """Return the experiment."""
    return Config(
        name="wiki_nq_mini",
        corpus="build/wiki_nq_mini",
        train_questions="data/wiki_nq_mini/qa_train.jsonl",
        dev_questions="data/wiki_nq_mini/qa_dev.jsonl",
        model=ModelConfig(
            bert=BertConfig(
                hidden_size=128,
                num_layers=2,
                num_heads=4,
                intermediate_size=512,
                max_positions=192,
                activation="relu",
                dropout=0.0,
                start="near_identity",
            ),
            span_hidden_size=128,
        ),
        shapes=ShapeConfig(query_length=40, block_length=144, joint_length=168, max_masks=8, candidates=4),
        ict=IctConfig(
            steps=300,
            batch_size=64,
            optimizer=OptimizerConfig(learning_rate=2e-3),
            log_every=100,
        ),
        read=RealmConfig(
            steps=120,
            batch_size=64,
            optimizer=OptimizerConfig(learning_rate=2e-3),
            log_every=100,
            weights="uniform",
            swap_probability=1.0,
            candidates=1,
            evidence_pool=20,
            evidence_window=32,
            window_steps=120,
            span_weight=1.0,
            encoder_from_embedder=True,
            oversample=3,
        ),
        realm=RealmConfig(
            steps=60,
            batch_size=16,
            optimizer=OptimizerConfig(learning_rate=1e-3),
            log_every=10,
            swap_probability=0.5,
            retriever_learning_rate=4e-4,
            oversample=3,
        ),
        qa=QaConfig(steps=2000, batch_size=16, optimizer=OptimizerConfig(learning_rate=5e-4), log_every=50),
        index=IndexConfig(engine="exact"),
        refresh=RefreshConfig(every=30),
    )
