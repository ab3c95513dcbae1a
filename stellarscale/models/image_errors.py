"""Errors of the labels that networks on images give: from the spread over dropout samples, as forests' from trees.

They are learned from the stars of the validation, which no network was trained on. Which stars are unlike the training
stars is told by :mod:`stellarscale.models.image_novelty`.
"""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path

import numpy as np

from stellarscale.config import Errors
from stellarscale.errors import ModelError
from stellarscale.kernels.conformal import FEWEST, Bins, fit_errors
from stellarscale.models.calibrate import CalibratedErrors, Told
from stellarscale.models.members import read_members, write_members

FORMAT_VERSION = 1

log = logging.getLogger(__name__)
_ABOUT = "about"


def calibrate_label(name: str, held_out: Told, settings: Errors) -> CalibratedErrors | None:
    """Learn the errors of a label from stars that its network was not trained on.

    Parameters
    ----------
    name : str
        Of what is calibrated, for the message.
    held_out : Told
        The stars of the validation; ``spread`` is the standard deviation over the dropout samples.
    settings : Errors
        Magnitude, noise and bins.

    Returns
    -------
    CalibratedErrors or None
        None, with a warning, where fewer than 20 stars are complete: a spread that nothing was compared with is no
        error. A warning as well where they are too few for more than one factor (:func:`few_stars`).
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
    if few := few_stars(int(known.sum()), settings):
        log.warning("%s: %s", name, few)
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


def few_stars(n: int, settings: Errors) -> str:
    """What to say of errors that ``n`` stars calibrated, if those fill no two cells of the job; empty if they do."""
    if n >= 2 * settings.min_stars or max(settings.magnitude_bins, settings.label_bins) == 1:
        return ""
    return (
        f"calibrated on {n} stars, fewer than two cells need (errors.min_stars {settings.min_stars}): one factor for "
        "the errors of all stars, whatever their magnitude and label, so that they may be nearly one number"
    )


def write_errors(path: Path, label: str, errors: CalibratedErrors) -> None:
    """Write the errors of a label: named arrays, uncompressed; the same errors give the same bytes.

    Parameters
    ----------
    path : Path
        A new file.
    """
    about = json.dumps({"version": FORMAT_VERSION, "label": label}, sort_keys=True).encode()
    with path.open("w+b") as file:
        write_members(file, {_ABOUT: np.frombuffer(about, dtype=np.uint8), **errors.to_arrays()})


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
            return CalibratedErrors.from_arrays(arrays)
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
