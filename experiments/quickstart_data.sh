#!/usr/bin/env bash
# Build the quickstart's encyclopaedia, texts and questions in build/quickstart, once. Called by quickstart.sh and
# ablations.sh, in the environment they have entered.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

data=build/quickstart
if [ ! -d "$data/pretraining" ]; then
  rm -rf "$data"
  python experiments/encyclopaedia/build.py --out "$data" \
    --categories books countries elements inventions planets_and_moons rivers scientists \
    --without character city known_for namesake origin other_city purpose region tributary use
  # Every word of the encyclopaedia is a wordpiece: what stands in it once must not look rarer than the rest.
  realm_jax vocabulary "$data/encyclopaedia.jsonl" "$data/pretraining.jsonl" --out "$data/vocab.txt" \
    --size 12000 --min-frequency 1
  realm_jax prepare "$data/encyclopaedia.jsonl" --out "$data/encyclopaedia" --tokenizer "$data/vocab.txt" \
    --max-block-tokens 48 --title-tokens 12
  for texts in heldout_sentences pretraining; do
    realm_jax prepare "$data/$texts.jsonl" --out "$data/$texts" --tokenizer "$data/vocab.txt" \
      --max-block-tokens 128 --title-tokens 12
  done
fi
