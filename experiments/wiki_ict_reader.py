"""The ICT retriever without REALM pre-training, a reader that starts from MiniLM.

Source: ORQA (Lee et al. 2019) at small scale; see wiki_minilm.py.
Expected: docs/RESULTS.md.
Cost: docs/RESULTS.md.
Command: realm_jax finetune --workdir runs/wiki_minilm-0/qa_ict \
  --experiment experiments/wiki_ict_reader.py --start-from runs/wiki_minilm-0/ict --encoder-from runs/minilm
"""

import dataclasses
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    base = load_experiment(Path(__file__).with_name("wiki_minilm.py"))
    return dataclasses.replace(base, name="wiki_ict_reader")
