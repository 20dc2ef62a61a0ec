"""One process at a time trains a run: two would mix their metrics and delete each other's checkpoints."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from realm_jax.errors import CheckpointError

LOCK = ".lock"  # in a run folder


@contextmanager
def one_trainer(workdir: Path) -> Iterator[None]:
    """Hold a run folder, which is made if it is missing and goes again if nothing comes into it.

    The system takes the lock from a process that ends, however it ends. It may not reach from one host to
    another; there a run that was preempted must go on without asking.

    Raises:
      CheckpointError: another process of this machine trains here.
    """
    made = not workdir.exists()
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise CheckpointError(
                "one process at a time trains a run",
                got=f"{workdir}, in which {file.read() or 'another process'} does",
                remedy="Wait until it has ended (asked to, it does after a step), or choose another folder.",
            ) from error
        except OSError:  # a file system without locks
            pass
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        try:
            yield
        finally:  # the file stays where there is a run: removed, it could be locked twice
            if made and [path.name for path in workdir.iterdir()] == [LOCK]:
                shutil.rmtree(workdir)
