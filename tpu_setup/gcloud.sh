# shellcheck shell=bash
# What the scripts of this folder share: arguments, dry runs, queued resources, commands on the workers.
# Sourced by them; `here` is this folder. Every call of gcloud goes through `cloud`.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
dry_run=
exec 3>&1 # where commands are shown, also from inside $(...)
errors=$(mktemp) # what gcloud said last on its standard error, where that is looked at
trap 'rm -f "$errors"' EXIT

fail() { # fail RULE GOT REMEDY: say what is wrong and what to do, and end
  echo "$(basename "$0"): $1, but got $2. $3" >&2
  exit 1
}

read_arguments() { # read_arguments ALLOWED_FLAGS "$@": set dry_run, and a variable for each flag; read the environment
  local allowed=$1 file=$here/environment
  shift
  while [ $# -gt 0 ]; do
    case $1 in
      --help | -h)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
        exit 0
        ;;
      --dry-run) dry_run=yes ;;
      --environment)
        [ $# -gt 1 ] || fail "--environment names a file" "no name" "Write it behind the option."
        file=$2
        shift
        ;;
      *)
        case " $allowed " in
          *" $1 "*) declare -g "$(echo "${1#--}" | tr - _)=yes" ;;
          *) fail "the options are --dry-run --environment FILE --help${allowed:+ $allowed}" "$1" "Check the spelling." ;;
        esac
        ;;
    esac
    shift
  done
  [ -f "$file" ] || fail "an environment file says what to use" "no $file" \
    "Copy $here/environment.example there and fill it in, or name another with --environment."
  case $file in */*) ;; *) file=./$file ;; esac # a bare name is looked for among the commands
  # shellcheck source=tpu_setup/environment.example
  . "$file"
  check_environment "$file"
  [ -n "$dry_run" ] || command -v gcloud >/dev/null || fail "the Google Cloud CLI, gcloud, is installed" \
    "no such command" "README.md says where it comes from."
}

check_environment() { # check_environment FILE: refuse what is missing or unknown, and fill in what may be left out
  local name
  for name in PROJECT ZONE NAME ACCELERATOR_TYPE RUNTIME_VERSION PROVISIONING BUCKET COMMAND; do
    [ -n "${!name:-}" ] || fail "$1 sets $name" "nothing" "environment.example says what it means."
  done
  case $PROVISIONING in
    spot | reserved | on-demand) ;;
    *) fail "PROVISIONING is spot, reserved or on-demand" "$PROVISIONING" "Correct it in $1." ;;
  esac
  : "${PYTHON_VERSION:=3.12}" "${GCSFUSE_VERSION:=3.8.0}" "${POLL_SECONDS:=30}" "${POLLS:=2880}"
  : "${ATTEMPTS:=5}" "${RESTARTS:=20}" "${DATA:=}"
  for name in POLL_SECONDS POLLS ATTEMPTS RESTARTS; do
    [[ ${!name} =~ ^[0-9]+$ ]] || fail "$name is a whole number" "${!name}" "Correct it in $1."
  done
  [ "$POLLS" -gt 0 ] && [ "$ATTEMPTS" -gt 0 ] ||
    fail "POLLS and ATTEMPTS are at least 1" "$POLLS and $ATTEMPTS" "Correct them in $1."
  [[ $NAME =~ ^[a-z][a-z0-9-]*$ ]] ||
    fail "NAME is made of small letters, digits and hyphens, a letter first" "$NAME" "Correct it in $1."
  [[ $BUCKET =~ ^[a-z0-9][a-z0-9._-]*$ ]] ||
    fail "BUCKET is the name of a bucket alone, without gs:// and folders" "$BUCKET" "Correct it in $1."
}

tell() { # tell WORD...: report what was done, which in a dry run is nothing
  [ -n "$dry_run" ] || echo "$*"
}

show() { # show WORD...: print a command as it can be typed
  local word line=
  for word in "$@"; do
    case $word in *[!A-Za-z0-9_./:=,@%+-]*) line+=" ${word@Q}" ;; *) line+=" $word" ;; esac
  done
  echo "${line# }" >&3
}

cloud() { # cloud WORD...: run gcloud, or only print the command in a dry run
  if [ -n "$dry_run" ]; then show gcloud "$@"; else command gcloud "$@"; fi
}

pause() { # wait between two looks
  if [ -z "$dry_run" ] && [ "$POLL_SECONDS" != 0 ]; then sleep "$POLL_SECONDS"; fi
}

queued() { # queued VERB WORD...: a command on the queued resource of this launch
  local verb=$1
  shift
  cloud compute tpus queued-resources "$verb" "$NAME" --project="$PROJECT" --zone="$ZONE" "$@"
}

queued_state() { # queued_state ASSUMED: print the state of the queued resource, NONE if there is none
  local state attempt
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    if state=$(queued describe --format='value(state.state)' 2>"$errors"); then
      echo "${dry_run:+$1}$state"
      return
    fi
    if grep -q "NOT_FOUND" "$errors"; then
      echo NONE
      return
    fi
    pause
  done
  fail "gcloud can be asked for the queued resource $NAME" "$(cat "$errors")" \
    "Check PROJECT and ZONE, and the account with 'gcloud auth list': it needs the role roles/tpu.admin."
}

slice_state() { # print the state of the slice's machines, LOST if they were taken away, nothing if that cannot be asked
  local state
  state=$(cloud compute tpus tpu-vm describe "$NAME" --project="$PROJECT" --zone="$ZONE" \
    --format='value(state)' 2>"$errors") || grep -q "NOT_FOUND" "$errors" || return 0
  case $dry_run$state in '' | PREEMPTED | TERMINATED) echo LOST ;; *) echo "$state" ;; esac
}

slice_lost() { # tell whether the slice was taken away although its queued resource does not say so yet
  [ "$(slice_state)" = LOST ]
}

on_workers() { # on_workers WORKER COMMAND: run a command on one worker or on `all`, again if the connection drops
  local attempt status=0
  for ((attempt = 1; attempt <= ATTEMPTS; attempt++)); do
    status=0
    cloud compute tpus tpu-vm ssh "$NAME" --project="$PROJECT" --zone="$ZONE" --quiet --worker="$1" \
      --command="$2" || status=$?
    [ $status -eq 255 ] || return $status # 255 is the connection; anything else is the command's own
    echo "$(basename "$0"): the connection to the workers dropped (attempt $attempt of $ATTEMPTS)" >&2
    pause
  done
  return $status
}

worker_script() { # worker_script FILE NAME...: print the command that runs a script of this folder with those values
  local file=$1 name line=env
  shift
  for name in "$@"; do printf -v line '%s %s=%q' "$line" "$name" "${!name}"; done
  echo "$line bash realm_jax/tpu_setup/$file"
}
