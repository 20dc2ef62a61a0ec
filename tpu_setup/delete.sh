#!/usr/bin/env bash
# Give the slice back: nothing of it is paid for any longer. The bucket and what is in it stay.
#   bash tpu_setup/delete.sh [--dry-run] [--environment FILE]
# A run that is going on is stopped first, and saves a checkpoint.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
read_arguments "" "$@"
state=$(queued_state ACTIVE)
case $state in
  NONE)
    echo "There is no queued resource $NAME."
    exit 0
    ;;
  DELETING)
    echo "$NAME is being deleted."
    exit 0
    ;;
  ACTIVE)
    on_workers all "sudo systemctl stop realm_jax" || echo "The run could not be stopped first; deleting all the same."
    ;;
esac
queued delete --force --quiet || [ "$(queued_state NONE)" = NONE ] ||
  fail "the queued resource $NAME can be deleted" "the error above" "It is still paid for: try again, or in the console."
tell "$NAME is deleted. Checkpoints and logs stay in gs://$BUCKET."
