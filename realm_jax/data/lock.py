"""One process at a time makes a folder; what one that died left of it is removed by the next."""

import fcntl
import os
import re
import shutil
import socket
from pathlib import Path
from typing import BinaryIO

from realm_jax.errors import CorpusError

UNFINISHED, REPLACED = "unfinished", "replaced"


class FolderLock:
    """A file `.NAME.lock` beside the folder, locked by the process that makes the folder.

    The system takes the lock from a process that ends, however it ends, so a process that died is never
    taken for one that runs. Locks may not reach from one host to another: what another host has not
    released is left alone.
    """

    def __init__(self, out: Path):
        self._out, self._path = out, out.parent / f".{out.name}.lock"
        self._file: BinaryIO | None = None

    def aside(self, kind: str) -> Path:
        """Return the name of this process's folder beside the one it makes."""
        return self._out.parent / f".{self._out.name}.{os.getpid()}.{kind}"

    def acquire(self) -> None:
        """Take the lock, and tidy up what a dead process left.

        A corpus that was moved away to be replaced, when its process died, gets its name back.

        Raises:
          CorpusError: a process makes this folder, or may do so on another host.
        """
        try:
            self._file = self._locked()
        except OSError:  # a file system without locks: nobody is known to have died
            return
        for folder in self._left_behind(REPLACED):
            if self._out.exists():
                shutil.rmtree(folder, ignore_errors=True)
            else:
                folder.rename(self._out)
        for folder in self._left_behind(UNFINISHED):
            shutil.rmtree(folder, ignore_errors=True)

    def release(self) -> None:
        """Give the lock back."""
        if self._file is not None:
            self._path.unlink(missing_ok=True)
            self._file.close()
            self._file = None

    def _locked(self) -> BinaryIO:
        while True:
            file = self._path.open("a+b")
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Whoever held it may have removed the file between our opening and our locking it.
                current = self._path.exists() and os.path.samestat(os.fstat(file.fileno()), self._path.stat())
            except BlockingIOError as error:
                holder = _content(file)
                file.close()
                raise CorpusError(
                    "One process at a time prepares a folder",
                    got=f"{self._out}, which {holder or 'another process'} is preparing",
                    remedy="Wait for it, or choose another folder.",
                ) from error
            except OSError:
                self._path.unlink(missing_ok=True)
                file.close()
                raise
            if current:
                break
            file.close()
        holder = _content(file)
        if holder and holder.split()[-1] != socket.gethostname():
            file.close()
            raise CorpusError(
                "One process at a time prepares a folder",
                got=f"{self._out}, which {holder} has not finished",
                remedy=f"If that process no longer runs, remove {self._path}.",
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}".encode())
        file.flush()
        return file

    def _left_behind(self, kind: str) -> list[Path]:
        name = re.compile(rf"\.{re.escape(self._out.name)}\.\d+\.{kind}")
        return sorted(path for path in self._out.parent.iterdir() if name.fullmatch(path.name))


def _content(file: BinaryIO) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace").strip()
