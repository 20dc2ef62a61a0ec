#!/usr/bin/env bash
# Retrieval and answers on real Wikipedia passages, with MiniLM as start of encoder and reader: a row a retriever.
#   bash experiments/wiki_minilm.sh FOLDER MINILM [SEED]
# FOLDER holds corpus.jsonl.gz, qa_train.jsonl and qa_dev.jsonl; MINILM is all-MiniLM-L6-v2, as a folder or a name on
# the hub. Results go to runs/wiki_minilm-SEED/*/evaluation-*. About four hours on two CPU cores.
set -euo pipefail
source=$(cd "${1:?give the folder that holds corpus.jsonl.gz and the questions}" && pwd)
minilm=${2:?give the folder of all-MiniLM-L6-v2, or its name on the hub}
seed=${3:-0}
if [ -d "$minilm" ]; then minilm=$(cd "$minilm" && pwd); fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
. experiments/environment.sh
enter_environment requirements.txt

corpus=build/wiki_minilm
run=runs/wiki_minilm-$seed
train() { # train COMMAND FOLDER EXPERIMENT [OPTIONS]
  realm_jax "$1" --workdir "$run/$2" --experiment "experiments/$3.py" --seed "$seed" "${@:4}"
}
finetune() {
  train finetune "$@" --train-questions "$source/qa_train.jsonl"
}
evaluate() { # evaluate FOLDER OUT [OPTIONS]
  realm_jax evaluate "$run/$1" --questions "$source/qa_dev.jsonl" --ks 1 5 10 20 50 100 --batch-size 32 \
    --out "$run/$1/evaluation-$2" "${@:3}"
}

[ -d runs/minilm ] || realm_jax import "$minilm" --workdir runs/minilm
[ -d "$corpus" ] || realm_jax prepare "$source/corpus.jsonl.gz" --out "$corpus" --tokenizer runs/minilm \
  --max-block-tokens 144 --title-tokens 16

# Retriever from nothing, encoder from MiniLM, then both together.
train ict untrained wiki_minilm --stop-after 0
train ict ict wiki_minilm
train read read wiki_minilm --start-from "$run/ict" --encoder-from runs/minilm
train pretrain realm wiki_minilm --start-from "$run/read"
for phase in untrained ict realm; do
  evaluate "$phase" model --fresh-index
done
evaluate ict bm25 --retriever bm25

# Readers: on BM25's blocks, on those of ICT, of REALM, of MiniLM; three blocks are read a question. The best one is
# trained longer, on pairs of BM25's blocks.
finetune qa_bm25 wiki_bm25_reader --encoder-from runs/minilm
finetune qa_ict wiki_ict_reader --start-from "$run/ict" --encoder-from runs/minilm
finetune qa_realm wiki_minilm --start-from "$run/realm"
finetune qa_minilm wiki_minilm_reader --start-from runs/minilm --stop-after 0
evaluate qa_minilm as_it_is --reader False
finetune qa_minilm wiki_minilm_reader --start-from runs/minilm
finetune qa_best wiki_best_reader --encoder-from runs/minilm
for reader in bm25 ict realm minilm best; do
  evaluate "qa_$reader" model --candidates 3
done
evaluate qa_minilm bm25 --retriever bm25 --candidates 3
evaluate qa_realm null --retriever null
