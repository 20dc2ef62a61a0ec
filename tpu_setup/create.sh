#!/usr/bin/env bash
# Ask for the TPU slice of the environment file as a queued resource, and wait until it is there.
#   bash tpu_setup/create.sh [--dry-run] [--environment FILE]
# A request that waits already is waited for; one whose slice was taken away is deleted and made again.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
read_arguments "" "$@"

check_bucket() { # folders are renamed in one step only where there is a hierarchical namespace
  local enabled
  enabled=$(cloud storage buckets describe "gs://$BUCKET" --raw --format='value(hierarchicalNamespace.enabled)' 2>"$errors") ||
    fail "the bucket gs://$BUCKET can be read" "$(cat "$errors")" "README.md has the command that makes it."
  [ -n "$dry_run" ] || [ "$enabled" = True ] ||
    fail "gs://$BUCKET has a hierarchical namespace" "a bucket without" \
      "It cannot be changed: make another one as README.md says."
}

request() { # ask for the slice, and say in plain words why it is refused
  local flags=()
  case $PROVISIONING in spot | reserved) flags=("--$PROVISIONING") ;; esac
  queued create --node-id="$NAME" --accelerator-type="$ACCELERATOR_TYPE" \
    --runtime-version="$RUNTIME_VERSION" "${flags[@]}" 2>"$errors" ||
    grep -q ALREADY_EXISTS "$errors" || refused "$(cat "$errors")" # one that is not yet shown is waited for
}

refused() { # refused MESSAGE
  shopt -s nocasematch
  case $1 in
    *quota* | *RESOURCE_EXHAUSTED*)
      fail "the project $PROJECT has quota for $ACCELERATOR_TYPE ($PROVISIONING) in $ZONE" "$1" \
        "Ask for more of that quota in the console (IAM, Quotas), choose a smaller ACCELERATOR_TYPE or another ZONE, \
and delete queued resources that are over: they count, too."
      ;;
    *capacity*)
      fail "$ZONE has room for $ACCELERATOR_TYPE" "$1" "Try PROVISIONING=spot, another ZONE, or later."
      ;;
    *) fail "Google Cloud accepts the request" "$1" "Correct the environment file." ;;
  esac
}

make_way() { # delete what is left of a slice that is gone
  tell "The slice of $NAME is gone ($state). Deleting what is left of it, to ask again."
  queued delete --force --quiet ||
    fail "what is left of $NAME can be deleted" "the error above" "Try again, or delete it in the console."
}

check_bucket
requested=
for ((poll = 1; poll <= POLLS; poll++)); do
  state=$(queued_state "${requested:-NONE}")
  case $state in
    ACTIVE)
      machines=$(slice_state)
      case $machines in
        LOST) make_way ;;
        '' | READY)
          tell "$NAME is ready."
          exit 0
          ;;
        *) # being started, repaired or stopped
          tell "The machines of $NAME are $machines."
          pause
          ;;
      esac
      ;;
    NONE)
      request
      requested=ACTIVE # what a dry run takes to come of it
      ;;
    FAILED)
      [ -z "$requested" ] || refused "FAILED: $(queued describe --format='value(state.failedData.error.message)' 2>&1)"
      make_way
      ;;
    SUSPENDED) make_way ;;
    *)
      [ $((poll % 10)) -ne 2 ] || tell "$NAME is $state; looking every $POLL_SECONDS seconds."
      pause
      ;;
  esac
done
fail "the slice is there after $POLLS looks" "$state" \
  "It is still in the queue: run this again to go on waiting, or tpu_setup/delete.sh to give it up."
