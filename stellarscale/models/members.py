"""Named arrays in one uncompressed .npz: the same arrays give the same bytes, and a reader can map them.

The members are stored, not deflated, and padded so that each array starts on a 64-byte boundary of the file: a worker
maps them and all workers of a host share one copy.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

_ALIGN = 64
_LOCAL_HEADER = 30  # bytes before the name: PKWARE APPNOTE 4.3.7
_ZIP64_EXTRA = 20  # zipfile writes it first when told to force_zip64
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would change the digest


def write_members(file: Any, members: Mapping[str, np.ndarray]) -> None:
    """Write named arrays to an empty file that is open for writing."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            start = file.tell() + _LOCAL_HEADER + len(info.filename) + _ZIP64_EXTRA + 4
            padding = -start % _ALIGN
            info.extra = b"\x35\xd9" + padding.to_bytes(2, "little") + bytes(padding)  # field 0xD935: alignment
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def map_members(path: Path, names: Iterable[str], *, checksums: bool) -> dict[str, np.ndarray]:
    """Map named arrays read-only, after comparing the checksums of the whole file if asked to.

    Raises
    ------
    KeyError
        If there is none of a name.
    zipfile.BadZipFile, OSError, ValueError
        If the file is damaged, or not of :func:`write_members`' kind.
    """
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip() if checksums else None
        if damaged:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return {name: _map_array(path, infos[name]) for name in names}


def read_members(path: Path, *, prefix: str) -> dict[str, np.ndarray]:
    """Read the arrays whose names begin so, by the rest of their names; small and empty ones are not worth mapping.

    Raises
    ------
    zipfile.BadZipFile, OSError, ValueError
        If the file is damaged.
    """
    result = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.startswith(prefix):
                with archive.open(name) as member:
                    array = np.lib.format.read_array(member, allow_pickle=False)
                result[name.removeprefix(prefix).removesuffix(".npy")] = array
    return result


def _map_array(path: Path, info: zipfile.ZipInfo) -> np.ndarray:
    if info.compress_type != zipfile.ZIP_STORED:
        raise zipfile.BadZipFile(f"{info.filename} is compressed")
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        header = file.read(_LOCAL_HEADER)
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        file.seek(info.header_offset + _LOCAL_HEADER + lengths)
        start = file.tell()
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{info.filename} has another .npy version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
    if dtype.hasobject or offset - start + dtype.itemsize * int(np.prod(shape)) != info.file_size:
        raise ValueError(f"{info.filename} does not hold {shape} values of {dtype}")
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=shape))
