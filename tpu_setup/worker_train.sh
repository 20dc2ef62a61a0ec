#!/usr/bin/env bash
# Run on a worker by launch.sh: mount the bucket, make runs/ its own, and start COMMAND as a service.
# Takes BUCKET and COMMAND from its environment. The service outlives the connection; it is told to stop (SIGTERM)
# before the machine goes away, and then saves. Its words go to realm_jax.log in the home folder.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mount=$HOME/bucket
if [ "$(systemctl show --property=SubState --value realm_jax)" = running ]; then
  echo "$(hostname) runs it already"
  exit 0
fi
if ! mountpoint --quiet "$mount"; then
  mkdir -p "$mount"
  # Nothing is cached about files: every worker must see at once what another wrote.
  gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 --metadata-cache-negative-ttl-secs=0 "$BUCKET" "$mount"
fi
mkdir -p "$mount/runs"
ln -sfn "$mount/runs" "$root/runs"
sudo systemctl stop realm_jax 2>/dev/null || true # one that is over is still known by its name
sudo systemctl reset-failed realm_jax 2>/dev/null || true
sudo systemd-run --unit=realm_jax --remain-after-exit --uid="$(id -u)" --gid="$(id -g)" \
  --working-directory="$root" --setenv=HOME="$HOME" --setenv=PATH="$root/.venv/bin:$PATH" \
  --property=TimeoutStopSec=300 --property=LimitNOFILE=1048576 \
  --property=StandardOutput=append:"$HOME/realm_jax.log" --property=StandardError=append:"$HOME/realm_jax.log" \
  /bin/bash -c "exec env $COMMAND" # env: COMMAND may begin with NAME=VALUE
echo "$(hostname) has started"
