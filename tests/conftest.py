"""Switches that every test runs under; set before jax starts."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
FLAGS = (
    "--xla_force_host_platform_device_count=8",
    # Programs of tests run a few times: half the seconds of compiling them are saved.
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
)
os.environ["XLA_FLAGS"] = " ".join((os.environ.get("XLA_FLAGS", ""), *FLAGS))

from realm_jax.heap import keep_freed_memory

keep_freed_memory(os.environ)

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from tests.tiny_run import programs, tiny_runs  # noqa: F401 - fixtures
