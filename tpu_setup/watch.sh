#!/usr/bin/env bash
# Look at the workers until the run is over; with --resume, make anew what is taken away, and go on.
#   bash tpu_setup/watch.sh [--dry-run] [--environment FILE] [--once] [--resume]
# Prints the last line that each worker wrote. --once looks a single time.
# Ends with 0 when every worker has finished, 1 when one failed (with the end of its log) or nothing is to be
# watched, and 3 when slice or worker was taken away and --resume is not given or was needed more than RESTARTS times.
# A worker that does not know of the run is one whose machine was started anew: it counts as taken away.
set -euo pipefail
# shellcheck source=tpu_setup/gcloud.sh
. "$(dirname "${BASH_SOURCE[0]}")/gcloud.sh"
once='' resume=''
read_arguments "--once --resume" "$@"
arguments=("$@")

may_resume() { [ -n "$resume" ] && [ "$restarted" -lt "$RESTARTS" ]; }

taken_away() { # taken_away WHAT: resume, or end with 3
  echo "Taken away: $1."
  if ! may_resume; then
    echo "$(basename "$0"): run tpu_setup/resume.sh to go on from the last checkpoint ($restarted restarts so far)." >&2
    exit 3
  fi
  restarted=$((restarted + 1))
  bash "$here/resume.sh" "${passed[@]}" || echo "Resuming did not succeed; looking again."
}

unanswered() { # count looks without an answer, and end when they are too many
  silent=$((silent + 1))
  [ "$silent" -lt "$POLLS" ] && [ -z "$once" ] || fail "the workers answer" "silence, $silent times over" \
    "The run may well go on. Try later, or tpu_setup/launch.sh, which starts what does not run."
}

passed=() restarted=0 silent=0
for ((i = 0; i < ${#arguments[@]}; i++)); do # what resume.sh takes, too
  case ${arguments[i]} in --once | --resume) ;; *) passed+=("${arguments[i]}") ;; esac
done
while true; do
  state=$(queued_state ACTIVE) || state=unreachable
  case $state in
    ACTIVE)
      if report=$(on_workers all "bash realm_jax/tpu_setup/worker_status.sh"); then
        silent=0
        tell "$report"
        if grep -q "^stopped on " <<<"$report"; then
          # The others cannot go on without it, and would fail: they are started anew, too.
          if may_resume; then on_workers all "sudo systemctl stop realm_jax" || true; fi
          taken_away "a worker, whose machine does not know of the run"
        elif grep -q "^failed on " <<<"$report"; then
          on_workers all "bash realm_jax/tpu_setup/worker_status.sh 40" || true
          fail "every worker runs to its end" "a worker that did not" \
            "Its log is above. Correct the cause, then tpu_setup/launch.sh goes on from the last checkpoint."
        elif ! grep -q "^runs on " <<<"$report"; then
          tell "The run is over on every worker."
          exit 0
        fi
      elif slice_lost; then
        taken_away "the slice, without a word"
      else
        unanswered
      fi
      ;;
    SUSPENDED | FAILED) taken_away "the slice, which is $state" ;;
    NONE)
      [ "$restarted" -gt 0 ] || fail "there is a queued resource $NAME" "none" "tpu_setup/create.sh makes it."
      taken_away "the slice; nothing is left of it"
      ;;
    unreachable) unanswered ;;
    *) tell "$NAME is $state." ;;
  esac
  if [ -n "$once" ] || [ -n "$dry_run" ]; then exit 0; fi
  pause
done
