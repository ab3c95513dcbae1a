"""Inputs of the methods that a network on images is compared with (paper III, section 5.2).

Magnitudes and colours of the star, or the principal components of what the network's backbone makes of its image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ConfigError, InputError
from stellarscale.kernels.photometry import absolute_magnitude

Columns = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of image features.

    Attributes
    ----------
    mean : ndarray, shape (n_features,)
    axes : ndarray, shape (n_components, n_features)
        Orthonormal, the one of the largest variance first.
    share : ndarray, shape (n_components,)
        Share of the variance along each axis.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]
    share: NDArray[np.float64]

    def of(self, features: NDArray) -> NDArray[np.float64]:
        """Components (n, n_components) of features (n, n_features); NaN in a row where a feature is."""
        return (np.asarray(features, dtype=np.float64) - self.mean) @ self.axes.T


def principal_components(features: NDArray, number: int) -> Components:
    """The axes of the largest variance of the training stars' features.

    Parameters
    ----------
    features : ndarray, shape (n, n_features)
        Of training stars; rows that are not finite take no part.
    number : int
        Components; fewer where the features or the stars are fewer (paper III: 16 of 512).

    Raises
    ------
    InputError
        If fewer than two stars have features.
    """
    from sklearn.decomposition import PCA

    known = np.asarray(features, dtype=np.float64)
    known = known[np.isfinite(known).all(axis=1)]
    if len(known) < 2:
        raise InputError("too few stars have image features", seen=f"{len(known)} of {len(features)}", needed=2)
    with np.errstate(invalid="ignore"):  # 0 / 0 where no feature varies
        fitted = PCA(min(number, *known.shape), svd_solver="covariance_eigh").fit(known)
    share = np.nan_to_num(fitted.explained_variance_ratio_)
    return Components(fitted.mean_, fitted.components_, share)


def magnitude_columns(magnitudes: Mapping[str, NDArray], parallax_mas: NDArray | None) -> Columns:
    """Magnitudes as inputs: apparent, or absolute where a parallax is to be used (paper III, Eq. 17).

    Parameters
    ----------
    magnitudes : mapping of str to ndarray, shape (n,)
        Dereddened apparent magnitude of each band, mag.
    parallax_mas : ndarray, shape (n,), optional
        NaN results where it is not positive.
    """
    if parallax_mas is None:
        return {f"{band}_0": np.asarray(values, dtype=np.float64) for band, values in magnitudes.items()}
    return {f"m_{band}_0": absolute_magnitude(values, parallax_mas) for band, values in magnitudes.items()}


def colour_columns(magnitudes: Mapping[str, NDArray], pairs: Sequence[str]) -> Columns:
    """Dereddened colours such as ``u-v``.

    Raises
    ------
    ConfigError
        If a pair is not two of the bands.
    """
    columns = {}
    for pair in pairs:
        blue, _, red = pair.partition("-")
        if blue not in magnitudes or red not in magnitudes:
            raise ConfigError("a colour needs two bands", seen=pair, needed=f"bands of {', '.join(magnitudes)}")
        columns[f"{blue}_{red}_0"] = np.asarray(magnitudes[blue], dtype=np.float64) - magnitudes[red]
    return columns


def input_columns(
    kind: str,
    magnitudes: Mapping[str, NDArray],
    pairs: Sequence[str],
    *,
    components: NDArray | None = None,
    parallax_mas: NDArray | None = None,
    error_mas: NDArray | None = None,
) -> Columns:
    """Columns of a set of features by name, each of shape (n,).

    Parallax and its error are columns of their own besides, where they are given: absolute magnitudes alone would
    not tell how well the distance is known.

    Parameters
    ----------
    kind : str
        ``magnitudes``, ``colours``, ``both`` or ``image``.
    magnitudes : mapping of str to ndarray, shape (n,)
        Dereddened apparent magnitude of each band, mag; NaN where unknown.
    pairs : sequence of str
        Colours.
    components : ndarray, shape (n, n_components), optional
        Principal components, for ``image``.
    parallax_mas, error_mas : ndarray, shape (n,), optional
        None: the set without parallax.

    Raises
    ------
    ConfigError
        As :func:`colour_columns`.
    ValueError
        If ``image`` is asked for without components.
    """
    columns: Columns = {}
    if kind in {"magnitudes", "both"}:
        columns |= magnitude_columns(magnitudes, parallax_mas)
    if kind in {"colours", "both"}:
        columns |= colour_columns(magnitudes, pairs)
    if kind == "image":
        if components is None:
            raise ValueError("image features need their components")
        columns |= {f"pc_{number}": values for number, values in enumerate(components.T, start=1)}
    if parallax_mas is not None and error_mas is not None:
        columns |= {"parallax": np.asarray(parallax_mas), "parallax_error": np.asarray(error_mas)}
    return columns
