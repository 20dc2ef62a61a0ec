"""ICT warm start of a BERT-base embedder on all of Wikipedia.

Source: ORQA (Lee et al. 2019), section 6; REALM (Guu et al. 2020), section 4.2.
Expected: zero-shot recall@5 of 13.9 on the NaturalQuestions-Open dev set (REALM, table 2, baseline).
Cost: 100,000 steps of 4096 sentences and blocks, 0.76 PFLOP each by `realm_jax plan`: 4 hours on v5e:8x8 at
  45% of its peak, in 5.6 of 16 GiB a chip. Not run by us.
Command:
  realm_jax import bert-base-uncased --workdir runs/bert
  realm_jax prepare wikipedia.jsonl.gz --out corpora/wikipedia --tokenizer runs/bert
  realm_jax ict --experiment experiments/ict_wiki.py --workdir runs/ict_wiki --start-from runs/bert
"""

from realm_jax.config import Config, IctConfig, ModelConfig, OptimizerConfig, ShapeConfig


def config() -> Config:
    """Return the experiment."""
    return Config(
        name="ict_wiki",
        corpus="corpora/wikipedia",
        model=ModelConfig(dtype="bfloat16"),
        shapes=ShapeConfig(query_length=64, block_length=312),
        ict=IctConfig(
            steps=100_000,
            batch_size=4096,
            optimizer=OptimizerConfig(learning_rate=1e-4),
            keep_probability=0.1,
            rematerialisation="full",  # 31 GiB a chip of v5e:8x8 without
        ),
    )
