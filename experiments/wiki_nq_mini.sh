#!/usr/bin/env bash
# REALM on real Wikipedia passages with searchers' questions, for two CPU cores and about an hour.
#   bash experiments/wiki_nq_mini.sh FOLDER [SEED]
# FOLDER holds corpus.jsonl.gz and qa_dev.jsonl. Results go to runs/wiki_nq_mini-SEED/*/evaluation-*.
set -euo pipefail
source=$(cd "${1:?give the folder that holds corpus.jsonl.gz and qa_dev.jsonl}" && pwd)
seed=${2:-0}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. experiments/environment.sh
enter_environment requirements.txt

corpus=build/wiki_nq_mini
experiment=experiments/wiki_nq_mini.py
run=runs/wiki_nq_mini-$seed

[ -d "$corpus" ] || realm_jax prepare "$source/corpus.jsonl.gz" --out "$corpus" --vocab-size 16000 \
  --max-block-tokens 144 --title-tokens 16

realm_jax ict --workdir "$run/untrained" --experiment "$experiment" --seed "$seed" --stop-after 0
realm_jax ict --workdir "$run/ict" --experiment "$experiment" --seed "$seed"
realm_jax read --workdir "$run/read" --experiment "$experiment" --seed "$seed" --start-from "$run/ict"
realm_jax pretrain --workdir "$run/realm" --experiment "$experiment" --seed "$seed" --start-from "$run/read"

for phase in untrained ict realm; do
  realm_jax evaluate "$run/$phase" --questions "$source/qa_dev.jsonl" --ks 1 5 20 --fresh-index --batch-size 64
done
realm_jax evaluate "$run/ict" --questions "$source/qa_dev.jsonl" --ks 1 5 20 --retriever bm25
for phase in read realm; do
  realm_jax evaluate "$run/$phase" --utility-batches 10 --batch-size 32 --out "$run/$phase/utility"
done
