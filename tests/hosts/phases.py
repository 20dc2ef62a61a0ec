"""Run several phases one after the other, in one start of the processes: python -m tests.hosts.phases.

What they are is in a JSON file: name, config, workdir, start_from, stop_at. REALM has several names.
"""

import json
import sys
from pathlib import Path

import tyro

from realm_jax.commands.hosts import Hosts, joined
from realm_jax.config import Config, from_dict


def main(jobs: Path, hosts: tyro.conf.OmitArgPrefixes[Hosts]) -> None:
    """Run the jobs of a file."""
    with joined(hosts):
        from realm_jax.runs.ict import run_ict
        from realm_jax.runs.qa import run_qa
        from realm_jax.runs.realm import run_realm

        for name, config, workdir, start_from, stop_at in json.loads(jobs.read_text()):
            before = Path(start_from) if start_from else None
            run = {"ict": run_ict, "qa": run_qa}.get(name, run_realm)
            run(from_dict(Config, config), Path(workdir), start_from=before, stop_at=stop_at)


if __name__ == "__main__":
    sys.exit(tyro.cli(main))
