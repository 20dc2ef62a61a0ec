#!/usr/bin/env bash
# Run on a worker by watch.sh: print whether the run goes on, and the end of its log (one line, or as many as given).
set -euo pipefail
case $(systemctl show --property=SubState --value realm_jax) in
  running | start) state=runs ;;
  exited) state=finished ;; # without an error; systemd says failed otherwise
  failed) state=failed ;;
  *) state=stopped ;; # never started on this machine, or stopped by hand
esac
echo "$state on $(hostname): $(tail -n "${1:-1}" "$HOME/realm_jax.log" 2>/dev/null || true)"
