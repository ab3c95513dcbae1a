"""One process at a time makes a directory: two runs that share a store would write over each other."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import weakref
from pathlib import Path

from stellarscale.errors import RunError

log = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)
_READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
_HELD: weakref.WeakValueDictionary[tuple[int, int], Lock] = weakref.WeakValueDictionary()


class Lock:
    """A lock that is held until this object is gone, or the process.

    The lock is the kernel's, so that none is left behind by a process that is killed, and holds across the nodes of
    a cluster where their file system has locks. A process may take a lock that it holds already.

    Raises
    ------
    RunError
        If another process holds it.
    """

    def __init__(self, folder: Path) -> None:
        status = os.stat(folder)
        place = (status.st_dev, status.st_ino)
        # Kept alive: the kernel gives up a process's lock when the process closes any handle of the file.
        self.first = _HELD.get(place)
        if self.first is not None:
            return
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno in _READ_ONLY:
                return  # nor can this process make anything here; what others have finished it may use
            raise
        self.release = weakref.finalize(self, os.close, handle)
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self.release()
            raise RunError(
                "another process is working on this directory; nothing was touched",
                where=folder.parent,
                needed="to wait until it is done: the same command goes on from there",
                cause="the same job, or another one that shares its store, was started twice",
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                self.release()
                raise
            log.warning("%s: the file system has no locks, so runs that share it cannot see each other", folder)
        _HELD[place] = self
