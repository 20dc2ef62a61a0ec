"""A reader that starts from REALM's encoder, with a retriever of the inverse cloze task alone.

Source: REALM (Guu et al. 2020), section 4.4 and table 2: "baseline retriever + REALM encoder".
Expected: NaturalQuestions-Open dev: exact match of 35.3. REALM itself: 38.2; ORQA, neither of them: 31.3.
Cost: that of experiments/openqa_nq.py, when the two runs are there. Not run by us.
Command:
  realm_jax finetune --experiment experiments/ablation_realm_encoder.py --start-from runs/ict_wiki \
    --encoder-from runs/realm --workdir runs/realm_encoder
  realm_jax evaluate runs/realm_encoder --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    return replace(load_experiment(Path(__file__).with_name("openqa_nq.py")), name="ablation_realm_encoder")
