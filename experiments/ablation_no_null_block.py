"""REALM that must always retrieve: no null block among the candidates.

Source: REALM (Guu et al. 2020), section 3.4, names the null document as what lets the model retrieve nothing.
Expected: not in the paper. With the null block, on NaturalQuestions-Open dev: exact match of 38.2, zero-shot
  recall@5 of 38.5.
Cost: that of experiments/realm_wiki.py, and of experiments/openqa_nq.py for the exact match. Not run by us.
Command:
  realm_jax pretrain --experiment experiments/ablation_no_null_block.py --start-from runs/ict_wiki \
    --workdir runs/no_null_block
  realm_jax evaluate runs/no_null_block --questions questions/nq_dev.jsonl --ks 5 --fresh-index
  realm_jax finetune --experiment experiments/openqa_nq.py --start-from runs/no_null_block \
    --workdir runs/no_null_block_nq
  realm_jax evaluate runs/no_null_block_nq --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="ablation_no_null_block", shapes=replace(wiki.shapes, null_block=False))
