"""Accelerators: what one chip has, in one table, and what the TPU compiler is told."""

from collections.abc import MutableMapping
from dataclasses import dataclass

GIB = 1 << 30
LIBTPU_FLAGS = "LIBTPU_INIT_ARGS"
# The compiler works in fibers of 64 KiB of stack, which its cost model of nested products outgrows: it died
# of that on a step of BERT-base for a v6e.
STACK_FLAG, STACK_BYTES = "--fibers_default_thread_stack_size", 1 << 20


@dataclass(frozen=True)
class Chip:
    """One chip, which JAX sees as one device.

    The two TensorCores of a v4 or v5p work as one device; the names slices are sold under (v4-8) count
    the cores.
    """

    name: str  # as a topology names it
    kind: str  # how its `device_kind` begins
    peak: float  # dense bfloat16 FLOP/s
    memory: int  # bytes of its own memory
    link: float  # bytes/s to its neighbours, over all links, one way
    per_host: int  # most chips of a host
    dimensions: int = 0  # of a slice: 2 or 3; 0: no slice but a number of devices
    cores: int = 1  # TensorCores
    type_prefix: str = ""  # of the accelerator type, which ends with the number of cores
    config: str = "default"  # libtpu's name for how the cores of a chip are used


# Makers' data sheets.
CHIPS = (
    Chip("v4", "TPU v4", 275e12, 32 * GIB, 300e9, 4, 3, cores=2, type_prefix="v4-", config="megacore"),
    Chip("v5e", "TPU v5 lite", 197e12, 16 * GIB, 200e9, 4, 2, type_prefix="v5litepod-"),
    Chip("v5p", "TPU v5", 459e12, 95 * GIB, 600e9, 4, 3, cores=2, type_prefix="v5p-", config="megacore"),
    Chip("v6e", "TPU v6 lite", 918e12, 32 * GIB, 448e9, 4, 2, type_prefix="v6e-"),
    Chip("a100", "NVIDIA A100", 312e12, 80 * GIB, 300e9, 8),
    Chip("h100", "NVIDIA H100", 989e12, 80 * GIB, 450e9, 8),
    Chip("h200", "NVIDIA H200", 989e12, 141 * GIB, 450e9, 8),
)


def peak_flops(kind: str) -> float:
    """Return the dense bfloat16 FLOP/s of a device by its `device_kind`; 0 where it is not known."""
    known = [chip for chip in CHIPS if kind.startswith(chip.kind)]
    return max(known, key=lambda chip: len(chip.kind)).peak if known else 0.0


def give_compiler_stack(environment: MutableMapping[str, str]) -> None:
    """Tell libtpu, before JAX starts it, to give its compiler stack enough, unless its flags name a size.

    Args:
      environment: of this process.
    """
    flags = environment.get(LIBTPU_FLAGS, "")
    if STACK_FLAG not in flags:
        environment[LIBTPU_FLAGS] = f"{flags} {STACK_FLAG}={STACK_BYTES}".lstrip()
