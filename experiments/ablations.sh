#!/usr/bin/env bash
# What each part of REALM is worth, on the quickstart's corpus: masks, fresh index, null block, retriever and encoder.
#   bash experiments/ablations.sh [--variants "NAME..."] [SEED...]
# Variants of pre-training: random_span uniform stale no_null; of fine-tuning: realm_retriever realm_encoder.
# All are the default, as is seed 0. Takes over runs/quickstart-SEED where the quickstart made it, else trains its
# warm-up and pre-training first. Results go to runs/ablations-SEED and to the table that is printed at the end.
set -euo pipefail
known="random_span uniform stale no_null realm_retriever realm_encoder"
variants=$known
if [ "${1:-}" = --variants ]; then
  variants=${2?--variants takes names in one word, such as "stale no_null"}
  shift 2
fi
seeds=("${@:-0}")
for variant in $variants; do
  case " $known " in
    *" $variant "*) ;;
    *) echo "ablations.sh: the variants are $known; got $variant" >&2 && exit 2 ;;
  esac
done
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. experiments/environment.sh
enter_environment requirements.txt


bash experiments/quickstart_data.sh
experiment=experiments/quickstart.py

# finetune NAME RETRIEVER_FROM ENCODER_FROM: a fifth of the quickstart's steps, the same for every row
finetune() {
  realm_jax finetune --workdir "$run/qa_$1" --experiment "$experiment" --seed "$seed" \
    --start-from "$2" --encoder-from "$3" --qa.steps 200
}

for seed in "${seeds[@]}"; do
  base=runs/quickstart-$seed
  run=runs/ablations-$seed
  realm_jax ict --workdir "$base/ict" --experiment "$experiment" --seed "$seed"
  realm_jax read --workdir "$base/read" --experiment "$experiment" --seed "$seed" --start-from "$base/ict"
  realm_jax pretrain --workdir "$base/realm" --experiment "$experiment" --seed "$seed" --start-from "$base/read"
  finetune none "$base/read" "$base/read"
  finetune realm "$base/realm" "$base/realm"
  for variant in $variants; do
    change=
    case $variant in
      random_span | uniform) change="--realm.masker $variant" ;;
      stale) change="--refresh.every 600" ;; # thirty times the quickstart's 20: the index of step 0 throughout
      no_null) change=--shapes.no-null-block ;;
      realm_retriever) finetune "$variant" "$base/realm" "$base/read" && continue ;;
      realm_encoder) finetune "$variant" "$base/read" "$base/realm" && continue ;;
    esac
    # shellcheck disable=SC2086  # two words
    realm_jax pretrain --workdir "$run/$variant" --experiment "$experiment" --seed "$seed" \
      --start-from "$base/read" $change
    finetune "$variant" "$run/$variant" "$run/$variant"
  done
done
python experiments/ablations_report.py --variants $variants --seeds "${seeds[@]}"
