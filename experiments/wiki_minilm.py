"""REALM on 38,521 passages of Wikipedia: a small retriever from nothing, a reader that starts from MiniLM.

Source: the phases of REALM on real text; MiniLM-L6 as warm start of encoder and reader. The retriever is not
  MiniLM, which was trained on these very question sets.
Expected: docs/RESULTS.md, beside BM25 and MiniLM's own retrieval.
Cost: docs/RESULTS.md; the script's rows together take about four hours on two CPU cores.
Command: bash experiments/wiki_minilm.sh FOLDER MINILM
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
        name="wiki_minilm",
        corpus="build/wiki_minilm",
        train_questions="data/wiki_nq_mini/qa_train.jsonl",
        dev_questions="data/wiki_nq_mini/qa_dev.jsonl",
        model=ModelConfig(
            bert=BertConfig(
                hidden_size=384,
                num_layers=6,
                num_heads=12,
                intermediate_size=1536,
                max_positions=512,
                activation="gelu",
                dropout=0.0,
            ),
            pooling="mean",
            embedder_bert=BertConfig(
                hidden_size=128,
                num_layers=2,
                num_heads=4,
                intermediate_size=512,
                max_positions=192,
                activation="relu",
                dropout=0.0,
                start="near_identity",
            ),
        ),
        shapes=ShapeConfig(query_length=32, block_length=160, joint_length=176, max_masks=8, candidates=4),
        ict=IctConfig(
            steps=1000,
            batch_size=128,
            optimizer=OptimizerConfig(learning_rate=2e-3),
            log_every=100,
        ),
        read=RealmConfig(
            steps=80,
            batch_size=32,
            optimizer=OptimizerConfig(learning_rate=2e-4),
            log_every=20,
            weights="uniform",
            swap_probability=1.0,
            candidates=1,
            evidence_pool=20,
            span_weight=1.0,
            oversample=2,
        ),
        realm=RealmConfig(
            steps=150,
            batch_size=8,
            optimizer=OptimizerConfig(learning_rate=1e-4),
            log_every=10,
            swap_probability=0.5,
            retriever_learning_rate=2e-4,
            oversample=3,
            # So few steps teach MiniLM to point, but not yet to fill in words.
            span_weight=1.0,
            pointing_trains_retriever=True,
        ),
        qa=QaConfig(
            steps=300,
            batch_size=16,
            optimizer=OptimizerConfig(learning_rate=1e-4),
            log_every=20,
            loss="orqa",
            candidates=1,
            beam=50,
            positives_first=True,
            whole_words=True,
        ),
        index=IndexConfig(engine="exact"),
        refresh=RefreshConfig(every=50),
    )
