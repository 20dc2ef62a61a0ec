"""REALM pre-training as in the paper: BERT-base, all of Wikipedia, salient span masks.

Source: REALM (Guu et al. 2020), sections 3.4 and 4.2; lengths and masks of the released code.
Expected: zero-shot recall@5 of 38.5 on the NaturalQuestions-Open dev set; exact match after tuning (test):
  39.2 NaturalQuestions, 40.2 WebQuestions, 46.8 CuratedTREC.
Cost: 200,000 steps of 1.47 PFLOP and 400 refreshes of 0.69 EFLOP, counted by `realm_jax plan`: 26 hours on
  v5e:8x8, 22 on v6e:4x4, at 45% of their peak. The paper used 64 TPUs to train and 16 to embed. Not run by
  us.
Command:
  realm_jax pretrain --experiment experiments/realm_wiki.py --start-from runs/ict_wiki --workdir runs/realm
"""

from realm_jax.config import (
    Config,
    IndexConfig,
    ModelConfig,
    OptimizerConfig,
    RealmConfig,
    RefreshConfig,
    ShapeConfig,
)


def config() -> Config:
    """Return the experiment."""
    return Config(
        name="realm_wiki",
        corpus="corpora/wikipedia",
        model=ModelConfig(dtype="bfloat16"),
        shapes=ShapeConfig(
            query_length=96, block_length=312, joint_length=384, max_masks=10, candidates=8, null_block=True
        ),
        realm=RealmConfig(
            steps=200_000,
            batch_size=512,
            optimizer=OptimizerConfig(learning_rate=3e-5),
            masker="salient",
            marginal="token",
            rematerialisation="full",  # for chips of 16 GiB
        ),
        index=IndexConfig(engine="fused", storage="bfloat16"),  # all of Wikipedia is 3.4 GB on the chips
        refresh=RefreshConfig(every=500, worker="thread", adoption="when_ready"),
    )
