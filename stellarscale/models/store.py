"""Packed forests on disk: one .npz without code in it, written atomically; the same content gives the same digest."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from stellarscale.errors import ModelError
from stellarscale.kernels.conformal import Estimate
from stellarscale.kernels.forest import PackedForest, check_packed, predict
from stellarscale.models.calibrate import Calibration
from stellarscale.models.members import map_members, read_members, write_members
from stellarscale.models.whole_file import whole_file

FORMAT_VERSION = 3

_ARRAYS = ("nodes", "tree_start", "leaf_values", "leaf_start", "depth")
_PROVENANCE = "provenance"
_CALIBRATION = "calibration_"  # begins the names of its arrays
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
    config_digest, features_digest : str
        Digest of the job's configuration, and of what the features mean: extinction, colours, classes.
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
    features_digest: str = ""
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
    """A forest opened from a file; its arrays are mapped read-only. ``calibration`` is None where the file has none."""

    packed: PackedForest
    provenance: ForestProvenance
    path: Path
    digest: str
    calibration: Calibration | None = None

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of a row, in order."""
        return self.provenance.feature_names

    @property
    def magnitude(self) -> str | None:
        """Feature that the errors depend on, if any."""
        return self.calibration.errors.magnitude if self.calibration else None

    @property
    def noise(self) -> tuple[str, ...]:
        """Noise that the errors grow with, if any."""
        return self.calibration.errors.noise if self.calibration else ()

    def is_novel(self, x: np.ndarray) -> np.ndarray:
        """Which rows of inputs lie outside of the training sample; none without a calibration."""
        return self.calibration.novelty.is_novel(x) if self.calibration else np.zeros(len(x), dtype=bool)

    def estimate(self, x: np.ndarray, magnitude: np.ndarray | None = None, noise: np.ndarray | None = None) -> Estimate:
        """Predictions, their errors, and which stars lie outside of the training sample.

        Parameters
        ----------
        x : numpy.ndarray of float32, (n, n_features)
            Rows, C-contiguous.
        magnitude : numpy.ndarray, (n,), optional
            Values of the feature that :attr:`magnitude` names.
        noise : numpy.ndarray, (n, k), optional
            Values of what :attr:`noise` names.

        Returns
        -------
        Estimate
            Without a calibration the errors are NaN, since a spread over trees is no error, and no star is novel.

        Raises
        ------
        ModelError
            If ``x`` does not fit the forest, or a magnitude or noise is needed and not given.
        """
        value, spread = predict(self.packed, x)
        if self.calibration is None:
            unknown = np.full(len(value), np.nan)
            return Estimate(value, spread, unknown, unknown, self.is_novel(x))
        err, err95 = self.calibration.errors.apply(value, spread, magnitude, noise)
        return Estimate(value, spread, err, err95, self.is_novel(x))


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


def save(
    path: str | os.PathLike[str],
    packed: PackedForest,
    provenance: ForestProvenance,
    calibration: Calibration | None = None,
) -> str:
    """Write a forest atomically: a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz``; ``numpy.load`` reads it too.
    packed : PackedForest
        Arrays of the forest.
    provenance : ForestProvenance
        Its description.
    calibration : Calibration, optional
        Its errors and novelty.

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
    learned = calibration.to_arrays() if calibration else {}
    members |= {f"{_CALIBRATION}{name}": array for name, array in learned.items()}
    with whole_file(target) as temporary, temporary.open("w+b") as file:
        write_members(file, members)
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
        members = map_members(path, (_PROVENANCE, *_ARRAYS), checksums=not vouched)
        text = bytes(members[_PROVENANCE]).decode()
        version = json.loads(text)["format_version"]
        if version == FORMAT_VERSION:
            provenance = ForestProvenance.from_json(text)
            packed = PackedForest(n_features=len(provenance.feature_names), **{name: members[name] for name in _ARRAYS})
            learned = read_members(path, prefix=_CALIBRATION)
            calibration = Calibration.from_arrays(learned, n_inputs=packed.n_features) if learned else None
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
    return StoredForest(packed, provenance, path, seen, calibration)
