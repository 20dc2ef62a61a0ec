#!/usr/bin/env bash
# Do the published orderings still hold? REALM pre-training over none, retrieval over closed book, a fresh index over
# a stale one; exits with 1 if one does not. About ten minutes a seed on two CPU cores; takes over finished runs.
#   bash benchmarks/orderings.sh [SEED...]
set -euo pipefail
exec bash "$(dirname "${BASH_SOURCE[0]}")/../experiments/ablations.sh" --variants stale "${@:-0}"
