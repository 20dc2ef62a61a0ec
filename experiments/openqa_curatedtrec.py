"""Fine-tuning on CuratedTREC, whose answers are expressions, by ORQA's recipe, from a pre-trained REALM.

Source: ORQA (Lee et al. 2019), sections 5 and 7.1, whose hyperparameters REALM (section 4.2) keeps:
  the retriever's loss looks for the answer in 5000 blocks, of which the first 5 are read.
Expected: exact match of 46.8 on the test set (REALM, table 1, X = Wikipedia).
Cost: 27,060 steps of one question and 5 blocks read, twenty passes over 1,353 questions. The authors used one
  GPU of 12 GB. `realm_jax plan`: 1 TFLOP a step, 5 minutes on one v5e chip at 45% of its peak, which a
  batch of one question will not reach. Not run by us.
Command:
  realm_jax finetune --experiment experiments/openqa_curatedtrec.py --start-from runs/realm \
    --workdir runs/curatedtrec
  realm_jax evaluate runs/curatedtrec --questions questions/curatedtrec_test.jsonl
"""

from realm_jax.config import Config, ModelConfig, OptimizerConfig, QaConfig, ShapeConfig


def config() -> Config:
    """Return the experiment."""
    return Config(
        name="openqa_curatedtrec",
        corpus="corpora/wikipedia",
        train_questions="questions/curatedtrec_train.jsonl",
        dev_questions="questions/curatedtrec_dev.jsonl",
        model=ModelConfig(dtype="bfloat16", span_hidden_size=256, max_span_width=10),
        shapes=ShapeConfig(query_length=64, block_length=312, joint_length=352),
        qa=QaConfig(
            steps=27_060,
            batch_size=1,
            optimizer=OptimizerConfig(learning_rate=1e-5),
            loss="orqa",
            candidates=5,
            beam=5000,
        ),
    )
