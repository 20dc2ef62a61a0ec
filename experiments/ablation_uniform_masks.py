"""REALM with words masked at random, as BERT masks them, instead of salient spans.

Source: REALM (Guu et al. 2020), section 4.4 and table 2: "random uniform masks".
Expected: NaturalQuestions-Open dev: exact match of 32.3, zero-shot recall@5 of 24.2.
  REALM itself: 38.2 and 38.5.
Cost: that of experiments/realm_wiki.py, and of experiments/openqa_nq.py for the exact match. Not run by us.
Command:
  realm_jax pretrain --experiment experiments/ablation_uniform_masks.py --start-from runs/ict_wiki \
    --workdir runs/uniform_masks
  realm_jax evaluate runs/uniform_masks --questions questions/nq_dev.jsonl --ks 5 --fresh-index
  realm_jax finetune --experiment experiments/openqa_nq.py --start-from runs/uniform_masks \
    --workdir runs/uniform_masks_nq
  realm_jax evaluate runs/uniform_masks_nq --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="ablation_uniform_masks", realm=replace(wiki.realm, masker="uniform"))
