"""REALM with random spans masked instead of salient ones.

Source: REALM (Guu et al. 2020), section 4.4 and table 2: "random span masks".
Expected: NaturalQuestions-Open dev: exact match of 35.3, zero-shot recall@5 of 26.1.
  REALM itself: 38.2 and 38.5.
Cost: that of experiments/realm_wiki.py, and of experiments/openqa_nq.py for the exact match. Not run by us.
Command:
  realm_jax pretrain --experiment experiments/ablation_random_spans.py --start-from runs/ict_wiki \
    --workdir runs/random_spans
  realm_jax evaluate runs/random_spans --questions questions/nq_dev.jsonl --ks 5 --fresh-index
  realm_jax finetune --experiment experiments/openqa_nq.py --start-from runs/random_spans \
    --workdir runs/random_spans_nq
  realm_jax evaluate runs/random_spans_nq --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="ablation_random_spans", realm=replace(wiki.realm, masker="random_span"))
