"""The one table of accelerators."""

from realm_jax.chips import CHIPS, give_compiler_stack, peak_flops


def test_the_longest_name_that_fits_decides():
    peaks = {chip.name: chip.peak for chip in CHIPS}
    assert peak_flops("TPU v5 lite") == peaks["v5e"] != peak_flops("TPU v5") == peaks["v5p"]
    assert peak_flops("NVIDIA H100 80GB HBM3") == peaks["h100"]
    assert peak_flops("cpu") == 0.0


def test_the_compiler_has_stack_enough_unless_told_otherwise():
    environment: dict[str, str] = {}
    give_compiler_stack(environment)
    give_compiler_stack(environment)
    assert environment == {"LIBTPU_INIT_ARGS": "--fibers_default_thread_stack_size=1048576"}
    own = {"LIBTPU_INIT_ARGS": "--xla_tpu_flag=1"}
    give_compiler_stack(own)
    assert own["LIBTPU_INIT_ARGS"] == "--xla_tpu_flag=1 --fibers_default_thread_stack_size=1048576"
    chosen = {"LIBTPU_INIT_ARGS": "--fibers_default_thread_stack_size=2097152"}
    give_compiler_stack(chosen)
    assert chosen["LIBTPU_INIT_ARGS"] == "--fibers_default_thread_stack_size=2097152"
