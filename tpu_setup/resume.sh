#!/usr/bin/env bash
# Go on after the slice was taken away: make it anew, install the same code, start the same command.
#   bash tpu_setup/resume.sh [--dry-run] [--environment FILE]
# Training goes on from its last checkpoint in the bucket. What is still there is used as it is.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
read_arguments "" "$@"
bash "$here/create.sh" "$@"
bash "$here/install.sh" --keep-code "$@"
bash "$here/launch.sh" "$@"
