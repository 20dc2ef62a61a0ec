"""python -m realm_jax is the command realm_jax."""

import sys

from realm_jax.cli import main

sys.exit(main())
