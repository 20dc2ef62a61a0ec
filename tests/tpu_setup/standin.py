"""Programs that stand in for those of a cloud: they note how they were called and answer what they are told.

Each answers from a file of `STATUS TEXT` lines, one a call; the last line is given again and again.
"""

import os
import shlex
import subprocess
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "tpu_setup"

RECORDER = """#!/usr/bin/env bash
line=
for word in "$(basename "$0")" "$@"; do printf -v line '%s%q ' "$line" "$word"; done
echo "$line" >>"$STANDIN/calls"
case "$(basename "$0") $*" in
  *failedData*) topic=reason ;;
  *"queued-resources describe"*) topic=state ;;
  *"queued-resources create"*) topic=create ;;
  *"queued-resources delete"*) topic=delete ;;
  *"tpu-vm describe"*) topic=slice ;;
  *"tpu-vm ssh"*) topic=ssh ;;
  *"buckets describe"*) topic=bucket ;;
  "gcloud storage"*) topic=storage ;;
  *) topic=$(basename "$0") ;;
esac
file=$STANDIN/answers/$topic
[ -f "$file" ] || exit 0
answer=$(head -n 1 "$file")
[ "$(wc -l <"$file")" -le 1 ] || sed -i 1d "$file"
status=${answer%% *} text=${answer#* }
if [ "$status" = 0 ]; then printf '%b\\n' "$text"; else printf '%b\\n' "$text" >&2; fi
exit "$status"
"""

ENVIRONMENT = {
    "PROJECT": "project",
    "ZONE": "zone-a",
    "NAME": "pod",
    "ACCELERATOR_TYPE": "v5litepod-64",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "PROVISIONING": "spot",
    "BUCKET": "bucket",
    "DATA": "corpora/wikipedia questions",
    "COMMAND": "realm_jax pretrain --experiment experiments/realm_wiki.py --workdir runs/realm",
    "POLL_SECONDS": "0",
    "POLLS": "5",
    "ATTEMPTS": "3",
    "RESTARTS": "2",
}


class StandIn:
    """A folder of stand-ins on PATH, before everything else."""

    def __init__(self, folder: Path, *programs: str):
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "answers").mkdir()
        for program in programs:
            (self.bin / program).write_text(RECORDER)
            (self.bin / program).chmod(0o755)
        self.environment(**ENVIRONMENT)
        self.answer("bucket", "0 True")
        self.answer("slice", "0 READY")

    def environment(self, **values: str) -> None:
        """Write the environment file."""
        lines = (f"{name}={shlex.quote(value)}\n" for name, value in values.items())
        (self.folder / "environment").write_text("".join(lines))

    def answer(self, topic: str, *lines: str) -> None:
        """Say what the next calls of a topic give, the last one for ever."""
        (self.folder / "answers" / topic).write_text("".join(f"{line}\n" for line in lines))

    def calls(self, containing: str = "") -> list[list[str]]:
        """Return the calls so far, in words, of those whose line contains a text."""
        path = self.folder / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        return [words for words in map(shlex.split, lines) if containing in " ".join(words)]

    def run(self, script: str | Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a script of tpu_setup with the environment file, or one anywhere with variables."""
        environment = {
            **os.environ,
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "STANDIN": str(self.folder),
            "HOME": str(self.folder),
            **variables,
        }
        path = SCRIPTS / script
        if not variables:
            arguments = (*arguments, "--environment", str(self.folder / "environment"))
        return subprocess.run(
            ["bash", str(path), *arguments], capture_output=True, text=True, env=environment, timeout=60
        )
