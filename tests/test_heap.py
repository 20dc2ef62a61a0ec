"""What is freed stays with the process: asked of a process of its own, since it lasts as long as one."""

import os
import subprocess
import sys

import pytest

from realm_jax.heap import computes_here, keep_freed_memory

GLIBC = sys.platform.startswith("linux") and os.confstr("CS_GNU_LIBC_VERSION") is not None
# Arrays of 48 MiB made by another thread, as JAX's are; the faults of all but the first.
FAULTS = """
import os, resource, sys, threading
import numpy as np
from realm_jax.heap import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory(os.environ)
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(48 << 17).sum()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
counts = []
thread = threading.Thread(target=lambda: counts.extend(faults() for _ in range(4)))
thread.start(); thread.join()
print(max(counts[1:]))
"""


@pytest.mark.skipif(not GLIBC, reason="the options are glibc's")
def test_large_arrays_cost_page_faults_once() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))
    }

    def faults(mode: str) -> int:
        command = [sys.executable, "-c", FAULTS, mode]
        return int(subprocess.run(command, env=environment, check=True, capture_output=True).stdout)

    pages = (48 << 20) // os.sysconf("SC_PAGESIZE")
    assert faults("plain") > pages // 600  # pages of 2 MiB at most
    assert faults("kept") < 16


def test_what_the_environment_says_is_left_alone() -> None:
    assert not keep_freed_memory({"JAX_PLATFORMS": "cpu", "MALLOC_ARENA_MAX": "4"})
    assert not keep_freed_memory({"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"})


def test_an_accelerator_keeps_the_allocator_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not keep_freed_memory({"JAX_PLATFORMS": "tpu,cpu"})
    monkeypatch.setattr("realm_jax.heap.find_spec", lambda name: None)
    assert computes_here({})
    monkeypatch.setattr("realm_jax.heap.find_spec", lambda name: object() if name == "libtpu" else None)
    assert not computes_here({}) and computes_here({"JAX_PLATFORMS": "cpu"})
