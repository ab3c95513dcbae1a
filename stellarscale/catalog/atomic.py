"""Files that are there completely or not at all: temporary name, fsync, rename, fsync of the directory."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stellarscale.errors import InputError, RunError

TEMPORARY_SUFFIX = ".stellarscale-part"

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path in the same directory; move it into place when the body ends well.

    The temporary name starts with a dot, so that no Parquet reader takes it for data, and ends in
    ``.stellarscale-part``, so that :func:`sweep` finds what a killed process left.

    Parameters
    ----------
    path : Path
        Final place. Its directory is made. An existing file is replaced in one step.

    Raises
    ------
    RunError
        If the disk is full; names the path and the free bytes.
    InputError
        If the path is a directory, a device or a pipe, which must not be replaced by a file.
    """
    if path.exists() and not path.is_file():
        raise InputError("only a file can be replaced", where=path, seen="a directory, device or pipe")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}{TEMPORARY_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        if error.errno in _FULL_DISK:
            raise _full_disk(path) from error
        raise
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a small text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sweep(directory: Path) -> int:
    """Remove the temporary files that killed processes left below a directory; returns how many."""
    left = list(directory.rglob(f"*{TEMPORARY_SUFFIX}"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a directory, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _full_disk(path: Path) -> RunError:
    return RunError(
        "the disk is full",
        where=path,
        seen=f"{shutil.disk_usage(path.parent).free} bytes free",
        needed="free space on this file system; then run the same command again, what is finished is kept",
        cause="the output, or the quota of this user, is larger than the space left",
    )
