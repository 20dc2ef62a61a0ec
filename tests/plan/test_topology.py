"""Names of slices: chips, cores, hosts, and what they are sold as."""

import pytest

from realm_jax.errors import ConfigError
from realm_jax.plan.topology import parse_topology


@pytest.mark.parametrize(
    ("name", "chips", "hosts", "sold"),
    [
        ("v5e:8x8", 64, 16, "v5litepod-64"),
        ("v6e:4x4", 16, 4, "v6e-16"),
        ("v4:2x2x1", 4, 1, "v4-8"),  # two TensorCores a chip: the type counts cores, the topology chips
        ("v5p:2x2x2", 8, 2, "v5p-16"),
        ("v5e:1x1", 1, 1, "v5litepod-1"),
        ("h100:8", 8, 1, ""),
        ("a100:12", 12, 2, ""),
    ],
)
def test_chips_hosts_and_type(name, chips, hosts, sold):
    topology = parse_topology(name)
    assert (topology.name, topology.chips, topology.hosts) == (name, chips, hosts)
    assert topology.accelerator_type == sold and topology.is_tpu == bool(sold)


def test_a_topology_says_its_cores_where_a_chip_has_two():
    assert str(parse_topology("V4:2x2x4")) == "v4:2x2x4 (v4-32): 16 chips, 32 TensorCores, 4 hosts"
    assert "TensorCores" not in str(parse_topology("v6e:4x4"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9:2x2", "v4, v5e, v5p, v6e"),
        ("v5e", "2 dimensions"),
        ("v5e:2x2x2", "2 dimensions"),
        ("v4:4x4", "3 dimensions"),
        ("v5e:0x4", "2 dimensions"),
        ("h100:2x2", "1 dimension"),
        ("v5e:3x4", "whole hosts"),
    ],
)
def test_what_is_not_sold_is_refused(name, said):
    with pytest.raises(ConfigError, match=said):
        parse_topology(name)
