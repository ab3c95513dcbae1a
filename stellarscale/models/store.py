"""Packed forests on disk: one uncompressed .npz without code in it, written atomically and mapped, not read.

The members are stored, not deflated, and padded so that each array starts on a 64-byte boundary of the file:
a worker maps them and all workers of a host share one copy. The same content gives the same bytes, hence the
same digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import PackedForest, check_packed

FORMAT_VERSION = 1

_ARRAYS = ("nodes", "tree_start", "leaf_values", "leaf_start", "depth")
_PROVENANCE = "provenance"
_ALIGN = 64
_LOCAL_HEADER = 30  # bytes before the name: PKWARE APPNOTE 4.3.7
_ZIP64_EXTRA = 20  # zipfile writes it first when told to force_zip64
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would change the digest
_CAUSE_DAMAGED = "the file was cut short or altered after it was written, or is not a stellarscale forest"


@dataclass(frozen=True)
class ForestProvenance:
    """What a stored forest predicts, from what, and where it comes from.

    Parameters
    ----------
    feature_names : tuple of str
        In the order of the columns of a row.
    label, unit : str
        Predicted quantity and its unit (empty for dex and other pure numbers).
    class_names : tuple of str
        Classes of star that the forest was trained for; empty for all.
    config_digest : str
        Digest of the job's configuration.
    oob_score, sigma : float
        Out-of-bag R^2, and 1.4826 x MAD of the out-of-bag residuals in ``unit``; NaN where not computed.
    n_train : int
        Training rows.
    hyperparameters, versions : Mapping
        As trained; versions of the packages that trained it.
    format_version : int
        Layout of the file and of its nodes.
    """

    feature_names: tuple[str, ...]
    label: str
    unit: str = ""
    class_names: tuple[str, ...] = ()
    config_digest: str = ""
    oob_score: float = float("nan")
    sigma: float = float("nan")
    n_train: int = 0
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """The record as JSON with sorted keys; NaN becomes null."""
        record = {name: None if value != value else value for name, value in asdict(self).items()}
        return json.dumps(record, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ForestProvenance:
        """Read what :meth:`to_json` wrote.

        Raises
        ------
        ValueError, TypeError
            If the text is not such a record.
        """
        record = json.loads(text)
        for name in ("feature_names", "class_names"):
            record[name] = tuple(record[name])
        for name in ("oob_score", "sigma"):
            record[name] = float("nan") if record[name] is None else float(record[name])
        return cls(**record)


@dataclass(frozen=True)
class StoredForest:
    """A forest opened from a file; its arrays are mapped read-only."""

    packed: PackedForest
    provenance: ForestProvenance
    path: Path
    digest: str

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of a row, in order."""
        return self.provenance.feature_names


def digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, in hexadecimal.

    Raises
    ------
    ModelError
        If the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(
            "The model file cannot be read",
            where=path,
            seen=error.strerror,
            cause="wrong path, or not trained yet",
        ) from error


def save(path: str | os.PathLike[str], packed: PackedForest, provenance: ForestProvenance) -> str:
    """Write a forest atomically: a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``; ``numpy.load`` reads it too.
    packed : PackedForest
        Arrays of the forest.
    provenance : ForestProvenance
        Its description.

    Returns
    -------
    str
        SHA-256 of the file, to be given to :func:`load`.

    Raises
    ------
    ModelError
        If the feature names do not fit the forest.
    """
    target = Path(path)
    if len(provenance.feature_names) != packed.n_features:
        raise ModelError(
            "Feature names do not fit the forest",
            where=target,
            seen=len(provenance.feature_names),
            needed=packed.n_features,
        )
    text = np.frombuffer(provenance.to_json().encode(), dtype=np.uint8)
    members = {_PROVENANCE: text, **{name: getattr(packed, name) for name in _ARRAYS}}
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
    try:
        with open(handle, "w+b") as file:
            _write_members(file, members)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    return digest(target)


def load(path: str | os.PathLike[str], expect_digest: str | None = None) -> StoredForest:
    """Open a forest, mapping its arrays; a process opens each file and digest once.

    Parameters
    ----------
    path : path-like
        File written by :func:`save`.
    expect_digest : str, optional
        SHA-256 that the file must have. A second call with the same one costs nothing; without one the file
        is hashed at every call.

    Returns
    -------
    StoredForest

    Raises
    ------
    ModelError
        If the file is missing, damaged, of another format version, or not the one expected.
    """
    where = Path(path).absolute()
    if expect_digest is None:
        return _open(where, digest(where), vouched=False)
    return _open(where, expect_digest, vouched=True)


@lru_cache(maxsize=32)
def _open(path: Path, expect_digest: str, *, vouched: bool) -> StoredForest:
    """Open a file whose digest the caller vouches for, or has only just computed from what is there."""
    seen = digest(path) if vouched else expect_digest
    if seen != expect_digest:
        raise ModelError(
            "The model file is not the one that was asked for",
            where=path,
            seen=f"sha256 {seen}",
            needed=f"sha256 {expect_digest}",
            cause="the model was trained again, or the file was altered, since the job was planned",
        )
    try:
        members = _map_members(path, checksums=not vouched)
        text = bytes(members[_PROVENANCE]).decode()
        version = json.loads(text)["format_version"]
        if version == FORMAT_VERSION:
            provenance = ForestProvenance.from_json(text)
            packed = PackedForest(n_features=len(provenance.feature_names), **{name: members[name] for name in _ARRAYS})
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            "The model file is damaged",
            where=path,
            seen=error,
            needed="a forest in .npz",
            cause=_CAUSE_DAMAGED,
        ) from error
    if version != FORMAT_VERSION:
        raise ModelError(
            "The model file has another format version",
            where=path,
            seen=version,
            needed=FORMAT_VERSION,
            cause="it was written by another version of stellarscale: train again",
        )
    check_packed(packed, where=path)
    return StoredForest(packed, provenance, path, seen)


def _write_members(file: Any, members: Mapping[str, np.ndarray]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in members.items():
            info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
            info.create_system, info.external_attr = 3, 0o644 << 16
            start = file.tell() + _LOCAL_HEADER + len(info.filename) + _ZIP64_EXTRA + 4
            padding = -start % _ALIGN
            info.extra = b"\x35\xd9" + padding.to_bytes(2, "little") + bytes(padding)  # field 0xD935: alignment
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def _map_members(path: Path, *, checksums: bool) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip() if checksums else None
        if damaged:
            raise zipfile.BadZipFile(f"bad checksum of {damaged}")
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return {name: _map_array(path, infos[name]) for name in (_PROVENANCE, *_ARRAYS)}


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
