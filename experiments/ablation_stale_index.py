"""REALM whose index is refreshed thirty times more seldom.

Source: REALM (Guu et al. 2020), section 4.4 and table 2: "30x stale MIPS".
Expected: NaturalQuestions-Open dev: exact match of 28.7, zero-shot recall@5 of 15.1.
  REALM itself: 38.2 and 38.5.
Cost: that of experiments/realm_wiki.py with 13 refreshes instead of 400. Not run by us.
Command:
  realm_jax pretrain --experiment experiments/ablation_stale_index.py --start-from runs/ict_wiki \
    --workdir runs/stale_index
  realm_jax evaluate runs/stale_index --questions questions/nq_dev.jsonl --ks 5 --fresh-index
  realm_jax finetune --experiment experiments/openqa_nq.py --start-from runs/stale_index \
    --workdir runs/stale_index_nq
  realm_jax evaluate runs/stale_index_nq --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="ablation_stale_index", refresh=replace(wiki.refresh, every=15_000))
