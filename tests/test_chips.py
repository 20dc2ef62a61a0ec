"""The one table of accelerators."""

from realm_jax.chips import CHIPS, peak_flops


def test_the_longest_name_that_fits_decides():
    peaks = {chip.name: chip.peak for chip in CHIPS}
    assert peak_flops("TPU v5 lite") == peaks["v5e"] != peak_flops("TPU v5") == peaks["v5p"]
    assert peak_flops("NVIDIA H100 80GB HBM3") == peaks["h100"]
    assert peak_flops("cpu") == 0.0
