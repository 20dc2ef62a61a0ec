"""REALM with the marginal of the paper's formula: the masked tokens of a text together, not each by itself.

Source: REALM (Guu et al. 2020), section 3.1, equation 1; the released code takes each token by itself.
Expected: not in the paper, whose numbers are those of the released code. NaturalQuestions-Open dev: exact
  match of 38.2, zero-shot recall@5 of 38.5 with the token marginal.
Cost: that of experiments/realm_wiki.py, and of experiments/openqa_nq.py for the exact match. Not run by us.
Command:
  realm_jax pretrain --experiment experiments/ablation_sequence_marginal.py --start-from runs/ict_wiki \
    --workdir runs/sequence_marginal
  realm_jax evaluate runs/sequence_marginal --questions questions/nq_dev.jsonl --ks 5 --fresh-index
  realm_jax finetune --experiment experiments/openqa_nq.py --start-from runs/sequence_marginal \
    --workdir runs/sequence_marginal_nq
  realm_jax evaluate runs/sequence_marginal_nq --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="ablation_sequence_marginal", realm=replace(wiki.realm, marginal="sequence"))
