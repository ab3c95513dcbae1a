"""Errors of the labels that networks on images give: from the spread over dropout samples, as forests' from trees.

They are learned from the stars of the validation, which no network was trained on; a novelty of stars is not told.
"""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np

from stellarscale.config import Errors
from stellarscale.errors import ModelError
from stellarscale.kernels.conformal import FEWEST, Bins, ErrorModel, fit_errors
from stellarscale.kernels.error_scale import ScaleModel
from stellarscale.models.calibrate import CalibratedErrors, Told
from stellarscale.models.members import read_members, write_members

FORMAT_VERSION = 1

log = logging.getLogger(__name__)
_ABOUT = "about"
_SCALE = "scale_"  # begins the names of the arrays of the scale
_SCALE_ARRAYS = tuple(field.name for field in fields(ScaleModel))
_ERROR_ARRAYS = tuple(field.name for field in fields(ErrorModel) if field.name != "scale")


def calibrate_label(name: str, held_out: Told, settings: Errors) -> CalibratedErrors | None:
    """Learn the errors of a label from stars that its network was not trained on.

    Parameters
    ----------
    name : str
        Of what is calibrated, for the message.
    held_out : Told
        The stars of the validation; ``spread`` is the standard deviation over the dropout samples.
    settings : Errors
        Magnitude, noise and bins; what it says of the novelty does not count.

    Returns
    -------
    CalibratedErrors or None
        None, with a warning, where fewer than 20 stars are complete: a spread that nothing was compared with is no
        error.
    """
    known = held_out.complete
    if known.sum() < FEWEST:
        log.warning(
            "%s: %d of %d stars of the validation have a prediction, a label, a magnitude and noise, fewer than %d: "
            "its errors are not calibrated, and are null",
            name,
            known.sum(),
            len(known),
            FEWEST,
        )
        return None
    magnitude = np.zeros(len(known)) if held_out.magnitude is None else np.asarray(held_out.magnitude, np.float64)
    model = fit_errors(
        (held_out.label - held_out.prediction)[known],
        held_out.spread[known],
        held_out.prediction[known],
        magnitude[known],
        held_out.noise[known],
        bins=Bins(settings.magnitude_bins, settings.label_bins, settings.min_stars),
    )
    return CalibratedErrors(model, settings.magnitude, settings.noise)


def write_errors(path: Path, label: str, errors: CalibratedErrors) -> None:
    """Write the errors of a label: named arrays, uncompressed; the same errors give the same bytes.

    Parameters
    ----------
    path : Path
        A new file.
    """
    about = {"version": FORMAT_VERSION, "label": label, "magnitude": errors.magnitude, "noise": errors.noise}
    arrays = {name: getattr(errors.model, name) for name in _ERROR_ARRAYS}
    arrays |= {f"{_SCALE}{name}": getattr(errors.model.scale, name) for name in _SCALE_ARRAYS}
    text = np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)
    with path.open("w+b") as file:
        write_members(file, {_ABOUT: text, **{name: np.atleast_1d(array) for name, array in arrays.items()}})


def read_errors(path: Path, label: str) -> CalibratedErrors:
    """Read what :func:`write_errors` wrote.

    Raises
    ------
    ModelError
        If the file is missing or damaged, of another version, or of another label.
    """
    try:
        arrays = read_members(path, prefix="")
        about = json.loads(bytes(arrays[_ABOUT]))
        found = {name: about[name] for name in ("version", "label")}
        if found == {"version": FORMAT_VERSION, "label": label}:
            errors = CalibratedErrors(_model(arrays), about["magnitude"], tuple(about["noise"]))
            _check_shapes(errors)
            return errors
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the file of calibrated errors cannot be read",
            where=path,
            seen=error,
            needed="what a run writes beside its networks",
            cause="it is missing, was cut short, or is none of these files",
        ) from error
    raise ModelError(
        "the file of calibrated errors is another one",
        where=path,
        seen=", ".join(f"{name} {value}" for name, value in found.items()),
        needed=f"version {FORMAT_VERSION}, label {label}",
        cause="it was written by another version of stellarscale, or renamed",
    )


def _model(arrays: Mapping[str, np.ndarray]) -> ErrorModel:
    scale = {name: arrays[f"{_SCALE}{name}"] for name in _SCALE_ARRAYS}
    single = ScaleModel(float(scale["spread"][0]), float(scale["floor"][0]), scale["nodes"], scale["noise"])
    return ErrorModel(single, **{name: arrays[name] for name in _ERROR_ARRAYS})


def _check_shapes(errors: CalibratedErrors) -> None:
    model = errors.model
    m, n, q = len(model.magnitude), len(model.label), len(model.scale.nodes)
    expected = [
        (model.magnitude, (m,)),
        (model.label, (n,)),
        (model.factors, (2, m, n)),
        (model.overall, (2,)),
        (model.scale.nodes, (q,)),
        (model.scale.noise, (q, len(errors.noise))),
    ]
    for array, shape in expected:
        if array.shape != shape or array.dtype != np.float64 or not (m and n and q):
            raise ValueError(f"an array is {array.dtype} {array.shape}, not float64 {shape}")
