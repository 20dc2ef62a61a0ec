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

bash experiments/quickstart_data.sh
experiment=experiments/quickstart.py

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
