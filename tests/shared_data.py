"""Find the development data (oracles, small corpora) that is not part of the repository."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def shared_path(*parts: str) -> Path:
    """Return a path under REALM_JAX_SHARED (default: ../shared beside the repository), or skip the test."""
    root = Path(os.environ.get("REALM_JAX_SHARED", ROOT.parent / "shared"))
    path = root.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"development data not present: {'/'.join(parts)} (set REALM_JAX_SHARED)")
    return path
