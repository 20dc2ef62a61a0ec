#!/usr/bin/env bash
# REALM from nothing on a small encyclopaedia: prepare, warm up, pre-train with a live index, fine-tune, evaluate, ask.
# Takes about twelve minutes on two CPU cores after installation. Arguments are seeds; the default is 0.
#   bash experiments/quickstart.sh          # one run
#   bash experiments/quickstart.sh 0 1 2    # three seeds
# An interrupted run goes on where it stopped when the script is started again.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. experiments/environment.sh
enter_environment requirements.txt

data=build/quickstart
experiment=experiments/quickstart.py

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

for seed in "${@:-0}"; do
  run=runs/quickstart-$seed
  start=$SECONDS
  realm_jax ict --workdir "$run/untrained" --experiment "$experiment" --seed "$seed" --stop-after 0
  realm_jax ict --workdir "$run/ict" --experiment "$experiment" --seed "$seed"
  realm_jax read --workdir "$run/read" --experiment "$experiment" --seed "$seed" --start-from "$run/ict"
  realm_jax pretrain --workdir "$run/realm" --experiment "$experiment" --seed "$seed" --start-from "$run/read"
  realm_jax finetune --workdir "$run/qa" --experiment "$experiment" --seed "$seed" --start-from "$run/realm"
  python experiments/quickstart_report.py "$run" --seconds $((SECONDS - start))
done
