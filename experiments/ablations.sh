#!/usr/bin/env bash
# What each part of REALM is worth, on the quickstart's corpus: masks, fresh index, null block, retriever and encoder.
#   bash experiments/ablations.sh [--variants "NAME..."] [SEED...]
# Variants of pre-training: random_span uniform stale no_null; of fine-tuning: realm_retriever realm_encoder.
# All are the default, as is seed 0. Every row starts from the quickstart's warm-up, in runs/quickstart-SEED, which is
# trained first where it is not there; pre-training has half the quickstart's steps, fine-tuning a tenth.
# Results go to runs/ablations-SEED and to the table that is printed at the end. About 25 minutes a seed on two CPU
# cores for all rows.
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

# pretrain NAME [OPTIONS] and finetune NAME RETRIEVER_FROM ENCODER_FROM: as many steps for every row. After fine-tuning
# all retrievers find nearly everything, so the retriever as pre-trained is kept too, beside the reader of row `realm`.
pretrain() {
  realm_jax pretrain --workdir "$run/$1" --experiment "$experiment" --seed "$seed" --start-from "$base/read" \
    --realm.steps 125 "${@:2}"
}
finetune() {
  realm_jax finetune --workdir "$run/qa_$1" --experiment "$experiment" --seed "$seed" \
    --start-from "$2" --encoder-from "$3" --qa.steps 100
  realm_jax finetune --workdir "$run/found_$1" --experiment "$experiment" --seed "$seed" \
    --start-from "$2" --encoder-from "$run/qa_realm" --stop-after 0
}

for seed in "${seeds[@]}"; do
  base=runs/quickstart-$seed
  run=runs/ablations-$seed
  realm_jax ict --workdir "$base/ict" --experiment "$experiment" --seed "$seed"
  realm_jax read --workdir "$base/read" --experiment "$experiment" --seed "$seed" --start-from "$base/ict"
  pretrain realm
  finetune realm "$run/realm" "$run/realm"
  finetune none "$base/read" "$base/read"
  for variant in $variants; do
    change=
    case $variant in
      random_span | uniform) change="--realm.masker $variant" ;;
      stale) change="--refresh.every 600" ;; # thirty times the quickstart's 20: the index of step 0 throughout
      no_null) change=--shapes.no-null-block ;;
      realm_retriever) finetune "$variant" "$run/realm" "$base/read" && continue ;;
      realm_encoder) finetune "$variant" "$base/read" "$run/realm" && continue ;;
    esac
    # shellcheck disable=SC2086  # two words
    pretrain "$variant" $change
    finetune "$variant" "$run/$variant" "$run/$variant"
  done
done
python experiments/ablations_report.py --variants $variants --seeds "${seeds[@]}"
