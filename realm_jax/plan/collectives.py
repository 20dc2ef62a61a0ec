"""What the devices send one another in a compiled program, read off its text."""

import math
import re
from collections import defaultdict
from typing import NamedTuple

OPERATIONS = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)

_CALL = re.compile(rf"= (?P<result>.*?) (?P<name>{'|'.join(OPERATIONS)})(?P<start>-start)?\(")
_SHAPE = re.compile(r"(pred|[a-z]+[0-9]+[a-z0-9]*)\[([0-9,]*)\]")
_WITH_OPERANDS = ("all-gather", "collective-permute")  # whose asynchronous start names operands, then results


class Collective(NamedTuple):
    """All operations of one kind in a program."""

    name: str
    operations: int
    bytes: int  # of their results on one chip


def collectives_in(text: str) -> list[Collective]:
    """List the collectives of a program, the most bytes first.

    One that stands in a loop is counted once.

    Args:
      text: of the compiled program, `Compiled.as_text()`.
    """
    found: defaultdict[str, list[int]] = defaultdict(list)
    for call in _CALL.finditer(text):
        shapes = _SHAPE.findall(call["result"])
        if call["start"] and call["name"] in _WITH_OPERANDS:
            shapes = shapes[len(shapes) // 2 :] if call["name"] == "all-gather" else shapes[1:2]
        found[call["name"]].append(sum(_bytes(dtype, sizes) for dtype, sizes in shapes))
    listed = [Collective(name, len(sizes), sum(sizes)) for name, sizes in found.items()]
    return sorted(listed, key=lambda one: (-one.bytes, one.name))


def _bytes(dtype: str, sizes: str) -> int:
    bits = re.search(r"\d+", dtype)
    width = max(1, int(bits.group()) // 8) if bits else 1
    return width * math.prod(int(size) for size in sizes.split(",") if size)
