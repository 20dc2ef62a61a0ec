"""What the C library does with freed memory while the processor itself computes."""

import ctypes
import sys
from collections.abc import Mapping
from importlib.util import find_spec

# A step's large temporaries are the same every time. glibc hands them back to the kernel after each, and the
# next one takes a page fault for every page: a fifth of its time. So nothing is mapped for itself, the heap
# is not cut, it grows by half a GiB, and it is one, since only the first can hold arrays of more than 64 MiB.
OPTIONS = {  # name in the environment -> number in malloc.h, value
    "MALLOC_MMAP_MAX_": (-4, 0),
    "MALLOC_TRIM_THRESHOLD_": (-1, -1),  # never
    "MALLOC_TOP_PAD_": (-2, 512 << 20),
    "MALLOC_ARENA_MAX": (-8, 1),
}
ACCELERATOR_PACKAGES = ("libtpu", "jax_plugins")  # of TPUs; of GPUs


def computes_here(environment: Mapping[str, str]) -> bool:
    """Say, before JAX starts, whether it will compute on the processor: it is told to, or has nothing else.

    Args:
      environment: of this process.
    """
    platforms = environment.get("JAX_PLATFORMS", "")
    return platforms == "cpu" or not platforms and not any(map(find_spec, ACCELERATOR_PACKAGES))


def keep_freed_memory(environment: Mapping[str, str]) -> bool:
    """Let the process keep what it frees, where it computes itself; to be called before threads are started.

    What the environment says of the C library's allocator is left as it is. With an accelerator nothing is
    changed either: the host's many threads are better off with heaps of their own.

    Args:
      environment: of this process.

    Returns:
      Whether that was done; another C library than glibc has no such options.
    """
    chosen = [name for name in environment if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]
    if chosen or not sys.platform.startswith("linux") or not computes_here(environment):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(option, value) for option, value in OPTIONS.values()])
