"""Which stars are unlike those that a network on images learned from, told by what the network is given.

A star is its brightness and the light beside it in each band of the stamp and, where the network uses it, its
parallax. None of these depends on the weights, the precision or the device of the network: the features of a backbone
place a star that is fainter than all training stars among these.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import InputError, ModelError
from stellarscale.kernels.conformal import FEWEST
from stellarscale.kernels.novelty import Mixture, NoveltyModel, fit_novelty, is_novel
from stellarscale.models.image_inputs import ImageScaling, standard_parallax
from stellarscale.models.members import read_members, write_members
from stellarscale.settings.image_network import Head, ImageNetwork

FORMAT_VERSION = 1

_ABOUT = "about"
_MIXTURE = ("means", "roots", "heights")
_REGION = ("low", "high", "centre", "axes")
_THRESHOLD = "threshold"
_PARALLAX_INPUTS = 2
_UNSCALED = ImageScaling((), (), (), ())

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ImageNovelty:
    """The region of a network's training stars.

    Attributes
    ----------
    parallax_input : str or None
        ``Head.parallax_input`` of the network; None for one without parallax.
    region : NoveltyModel
        Of two numbers a band, and of the two inputs that stand for the parallax.
    """

    parallax_input: str | None
    region: NoveltyModel

    def is_novel(self, summary: Floats, parallax_mas: Floats, error_mas: Floats) -> NDArray[np.bool_]:
        """Which stars lie outside of the region, shape (n,); one that lacks an input does not.

        Parameters
        ----------
        summary : ndarray of float64, shape (n, 2 n_bands)
            As :func:`stellarscale.kernels.stamp_summary.stamp_summary` gives it.
        parallax_mas, error_mas : ndarray of float64, shape (n,)

        Raises
        ------
        ModelError
            If the stamps have another number of bands.
        """
        rows = _inputs(self.parallax_input, summary, parallax_mas, error_mas)
        if rows.shape[1] != len(self.region.low):
            raise ModelError(
                "the region of the training stars is of stamps with other bands",
                seen=f"{rows.shape[1]} inputs",
                needed=len(self.region.low),
            )
        return is_novel(self.region, rows, np.arange(rows.shape[1]))


def learn_novelty(
    network: ImageNetwork, summary: Floats, parallax_mas: Floats, error_mas: Floats, *, quantile: float
) -> ImageNovelty:
    """Describe the region of the training stars of a network.

    Parameters
    ----------
    network : ImageNetwork
        Whether it uses the parallax, and how.
    summary : ndarray of float64, shape (n, 2 n_bands)
        Of the training stars (:func:`stellarscale.kernels.stamp_summary.stamp_summary`); those that lack an input are
        left out.
    parallax_mas, error_mas : ndarray of float64, shape (n,)
    quantile : float
        Share of stars like these that shall count as inside.

    Raises
    ------
    InputError
        If fewer than 20 stars have all inputs.
    """
    parallax_input = network.head.parallax_input if network.parallax else None
    rows = _inputs(parallax_input, summary, parallax_mas, error_mas)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if len(rows) < FEWEST:
        raise InputError(
            "too few stars to tell which are unlike them",
            seen=f"{len(rows)} of {len(summary)} training stars with known pixels in each band and a parallax",
            needed=FEWEST,
        )
    return ImageNovelty(parallax_input, fit_novelty(rows, quantile=quantile))


def write_novelty(path: Path, network: str, novelty: ImageNovelty) -> None:
    """Write the region of a network, known by its name, as named arrays; the same region gives the same bytes.

    Parameters
    ----------
    path : Path
        A new file.
    """
    about = {"version": FORMAT_VERSION, "network": network, "parallax_input": novelty.parallax_input}
    region = novelty.region
    arrays = {_ABOUT: np.frombuffer(json.dumps(about, sort_keys=True).encode(), dtype=np.uint8)}
    arrays |= {name: getattr(region, name) for name in _REGION}
    arrays |= {name: getattr(region.mixture, name) for name in _MIXTURE}
    arrays[_THRESHOLD] = np.array([region.threshold])
    with path.open("w+b") as file:
        write_members(file, arrays)


def read_novelty(path: Path, name: str, network: ImageNetwork, *, n_bands: int) -> ImageNovelty:
    """Read what :func:`write_novelty` wrote for a network of this name and shape.

    Raises
    ------
    ModelError
        If the file is missing or damaged, of another version, or does not fit the network.
    """
    try:
        arrays = read_members(path, prefix="")
        about = json.loads(bytes(arrays[_ABOUT]))
        found = {key: about[key] for key in ("version", "network", "parallax_input")}
        d = 2 * n_bands + (_PARALLAX_INPUTS if network.parallax else 0)
        wanted = {
            "version": FORMAT_VERSION,
            "network": name,
            "parallax_input": network.head.parallax_input if network.parallax else None,
        }
        if found == wanted:
            _check_shapes(arrays, d)
            return ImageNovelty(found["parallax_input"], _region(arrays))
    except (zipfile.BadZipFile, OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "which stars are unlike the training stars of a network cannot be read",
            where=path,
            seen=error,
            needed="what a run writes beside its networks",
            cause="an older version trained the network, or the file was cut short or altered: remove it if it is "
            "there, and the run that trained the network writes it again when it is started again",
        ) from error
    raise ModelError(
        "the region of the training stars is that of another network",
        where=path,
        seen=_told(found),
        needed=_told(wanted),
        cause="it was written by another version of stellarscale, or renamed",
    )


def _inputs(
    parallax_input: str | None, summary: Floats, parallax_mas: Floats, error_mas: Floats
) -> NDArray[np.float32]:
    """Rows of all inputs; NaN where one is missing."""
    rows = summary
    if parallax_input is not None:
        head = Head.model_validate({"parallax_input": parallax_input})
        rows = np.hstack([summary, standard_parallax(parallax_mas, error_mas, _UNSCALED, head)])
    return np.ascontiguousarray(rows, dtype=np.float32)


def _region(arrays: Mapping[str, np.ndarray]) -> NoveltyModel:
    parts: dict[str, Any] = {name: arrays[name] for name in _REGION}
    mixture = Mixture(**{name: arrays[name] for name in _MIXTURE})
    return NoveltyModel(mixture=mixture, threshold=float(arrays[_THRESHOLD][0]), **parts)


def _check_shapes(arrays: Mapping[str, np.ndarray], d: int) -> None:
    k, r = arrays["means"].shape
    expected: dict[str, tuple[int, ...]] = {"low": (d,), "high": (d,), "centre": (d,), "axes": (d, r)}
    expected |= {"means": (k, r), "roots": (k, r, r), "heights": (k,), _THRESHOLD: (1,)}
    for name, shape in expected.items():
        if arrays[name].shape != shape or arrays[name].dtype != np.float64:
            raise ValueError(f"array {name} is {arrays[name].dtype} {arrays[name].shape}, not {shape}")
    if not k:
        raise ValueError("the region has no components")


def _told(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
