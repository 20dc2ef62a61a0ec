#!/usr/bin/env bash
# Run on a worker by install.sh: an interpreter, the packages, the program that mounts the bucket, the data.
# Takes BUCKET, PYTHON_VERSION, GCSFUSE_VERSION and DATA (folders of the bucket) from its environment.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# The image's own Python is too old for JAX; uv brings one that stands beside it.
PATH="$HOME/.local/bin:$PATH"
command -v uv >/dev/null || python3 -m pip install --user --quiet uv
uv python install --quiet "$PYTHON_VERSION"
PYTHON=$(uv python find --managed-python "$PYTHON_VERSION")
export PYTHON
# shellcheck source=experiments/environment.sh
. experiments/environment.sh
ACCELERATOR=tpu
enter_environment requirements.txt

if ! command -v gcsfuse >/dev/null; then
  package=$(mktemp --suffix=.deb)
  curl --fail --silent --show-error --location --retry 5 --output "$package" \
    "https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v$GCSFUSE_VERSION/gcsfuse_${GCSFUSE_VERSION}_amd64.deb"
  chmod 644 "$package"
  # A fresh machine updates itself for some minutes: wait for it.
  sudo apt-get -o DPkg::Lock::Timeout=600 install --yes --quiet "$package"
  rm "$package"
fi

for folder in $DATA; do
  mkdir -p "$folder"
  gcloud storage rsync --recursive "gs://$BUCKET/$folder" "$folder"
done
echo "$(hostname) is installed"
