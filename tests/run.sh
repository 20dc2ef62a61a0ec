#!/usr/bin/env bash
# Run the tests in the project's own environment, made on the first call: bash tests/run.sh [pytest's arguments]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=experiments/environment.sh
. "$root/experiments/environment.sh"
enter_environment requirements-dev.txt
cd "$root"
# Two files at a time: each side takes up to 4 GB. In their order, which has the longest ones early, not by their
# number of tests. A debugger wants one: bash tests/run.sh --numprocesses 0 --pdb
exec python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
