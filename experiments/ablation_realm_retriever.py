"""The retriever of REALM with a reader that starts from BERT.

Source: REALM (Guu et al. 2020), section 4.4 and table 2: "REALM retriever + baseline encoder".
Expected: NaturalQuestions-Open dev: exact match of 37.4. REALM itself: 38.2; ORQA, neither of them: 31.3.
Cost: that of experiments/openqa_nq.py, when the two runs are there. Not run by us.
Command:
  realm_jax finetune --experiment experiments/ablation_realm_retriever.py --start-from runs/realm \
    --encoder-from runs/bert --workdir runs/realm_retriever
  realm_jax evaluate runs/realm_retriever --questions questions/nq_dev.jsonl
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    return replace(load_experiment(Path(__file__).with_name("openqa_nq.py")), name="ablation_realm_retriever")
