"""The slice of accelerators that is planned for, by its name: `v5e:8x8`, `v4:2x2x4`, `h100:8`."""

import math
import re
from dataclasses import dataclass

from realm_jax.chips import CHIPS, Chip
from realm_jax.errors import ConfigError


@dataclass(frozen=True)
class Topology:
    """A slice of TPUs, or a number of GPUs.

    Attributes:
      chip: what each is.
      shape: chips along each axis of a slice; the number of GPUs.
    """

    chip: Chip
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """As it is asked for, and as libtpu names it."""
        return f"{self.chip.name}:{'x'.join(map(str, self.shape))}"

    @property
    def chips(self) -> int:
        """Devices, as JAX sees them."""
        return math.prod(self.shape)

    @property
    def hosts(self) -> int:
        return -(-self.chips // self.chip.per_host)

    @property
    def is_tpu(self) -> bool:
        return self.chip.dimensions > 0

    @property
    def accelerator_type(self) -> str:
        """What the slice is rented as, such as v4-32 (which counts TensorCores); empty for GPUs."""
        return f"{self.chip.type_prefix}{self.chips * self.chip.cores}" if self.is_tpu else ""

    def __str__(self) -> str:
        sold = f" ({self.accelerator_type})" if self.is_tpu else ""
        cores = f", {self.chips * self.chip.cores} TensorCores" if self.chip.cores > 1 else ""
        hosts = f"{self.hosts} host{'s' if self.hosts > 1 else ''}"
        return f"{self.name}{sold}: {self.chips} chip{'s' if self.chips > 1 else ''}{cores}, {hosts}"


def parse_topology(text: str) -> Topology:
    """Read the name of a topology.

    Args:
      text: `CHIP:SHAPE`; the shape is in chips: two numbers for v5e and v6e, three for v4 and
        v5p, one for GPUs.

    Raises:
      ConfigError: the chip is not known, or the shape is none that such chips come in.
    """
    known = {chip.name: chip for chip in CHIPS}
    name, _, shape = text.lower().partition(":")
    if name not in known:
        raise ConfigError(
            f"a topology is one of {', '.join(known)}, and behind a colon its shape in chips",
            got=text,
            remedy="Such as v5e:8x8, v4:2x2x4 or h100:8.",
        )
    chip = known[name]
    axes = chip.dimensions or 1
    sizes = tuple(map(int, shape.split("x"))) if re.fullmatch(r"\d+(x\d+)*", shape) else ()
    if len(sizes) != axes or min(sizes) < 1:
        raise ConfigError(
            f"{name} comes in {axes} dimension{'s' if axes > 1 else ''} of at least 1 chip",
            got=text,
            remedy=f"Such as {name}:{'x'.join(['4'] * axes)}: numbers of chips, not of cores.",
        )
    topology = Topology(chip, sizes)
    if topology.is_tpu and topology.chips > 1 and (sizes[0] % 2 or sizes[1] % 2):
        raise ConfigError(
            f"{name} hosts have 2 x 2 chips, and a slice is made of whole hosts",
            got=text,
            remedy="Choose even numbers for the first two, or a single chip.",
        )
    return topology
