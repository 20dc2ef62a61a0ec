#!/usr/bin/env bash
# Bring the committed code, its packages and the data to every worker.
#   bash tpu_setup/install.sh [--dry-run] [--environment FILE] [--keep-code]
# The code goes by way of the bucket; --keep-code takes what was sent there before, as resuming does.
# What is there already is left as it is, so it may be run again.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
keep_code=
read_arguments "--keep-code" "$@"
code=gs://$BUCKET/launches/$NAME/code.tar.gz

send_code() { # send the last commit to the bucket
  local root archive
  root=$(git -C "$here" rev-parse --show-toplevel)
  if [ -n "$dry_run" ]; then
    show git -C "$root" archive --format=tar.gz --output=code.tar.gz HEAD
    cloud storage cp code.tar.gz "$code"
    return
  fi
  [ -z "$(git -C "$root" status --porcelain)" ] || echo "Note: what is not committed is not sent." >&2
  archive=$(mktemp)
  git -C "$root" archive --format=tar.gz --output="$archive" HEAD
  cloud storage cp "$archive" "$code" || fail "the bucket can be written" "the error above" \
    "The account needs the role roles/storage.objectUser on gs://$BUCKET."
  rm "$archive"
}

[ -n "$keep_code" ] || send_code
fetch="set -o pipefail; rm -rf code.new; mkdir -p realm_jax code.new && gcloud storage cat $code | tar -xz -C code.new"
# Every folder of the code is replaced as a whole, so that nothing of an older commit stays in it.
# shellcheck disable=SC2016 # for the worker's shell to expand
place='for new in code.new/* code.new/.[!.]*; do old=realm_jax/${new#*/}; rm -rf "$old" && mv "$new" "$old" || exit; done'
on_workers all "$fetch && { $place; } && rmdir code.new && $(worker_script worker_install.sh BUCKET PYTHON_VERSION GCSFUSE_VERSION DATA)" ||
  fail "every worker can be installed" "the error above" "Correct it and run this again; what is done is kept."
tell "Installed on every worker of $NAME."
