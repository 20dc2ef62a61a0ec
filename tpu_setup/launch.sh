#!/usr/bin/env bash
# Start COMMAND of the environment file on every worker; it goes on when this machine is switched off.
#   bash tpu_setup/launch.sh [--dry-run] [--environment FILE]
# Where it runs already it is left alone. A run that has checkpoints in the bucket goes on from the last.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
read_arguments "" "$@"
on_workers all "$(worker_script worker_train.sh BUCKET COMMAND)" ||
  fail "every worker can be started" "the error above" "Was tpu_setup/install.sh run? Correct it and run this again."
tell "Started on every worker of $NAME: $COMMAND"
