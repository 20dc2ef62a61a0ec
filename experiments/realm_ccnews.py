"""REALM pre-training as in the paper, its masked sentences from CC-News instead of Wikipedia.

Source: REALM (Guu et al. 2020), sections 4.2 and 4.3: X = CC-News, Z = Wikipedia. No retrieval is trivial
  here, for no text is cut from the corpus that is searched.
Expected: exact match after tuning (test): 40.4 NaturalQuestions, 40.7 WebQuestions, 42.9 CuratedTREC.
Cost: that of experiments/realm_wiki.py. Not run by us.
Command:
  realm_jax prepare ccnews.jsonl.gz --out corpora/ccnews --tokenizer corpora/wikipedia
  realm_jax pretrain --experiment experiments/realm_ccnews.py --start-from runs/ict_wiki \
    --workdir runs/realm_ccnews
"""

from dataclasses import replace
from pathlib import Path

from realm_jax.commands.training import load_experiment
from realm_jax.config import Config


def config() -> Config:
    """Return the experiment."""
    wiki = load_experiment(Path(__file__).with_name("realm_wiki.py"))
    return replace(wiki, name="realm_ccnews", text="corpora/ccnews")
