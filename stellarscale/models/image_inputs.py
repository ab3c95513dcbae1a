"""Stamps, parallaxes and labels of mean zero and deviation one, as the network on images takes them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError
from stellarscale.models.scaling import Scaling
from stellarscale.settings.image_network import Head, ImageNetwork

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_STAMPS_AT_ONCE = 200
_SMALLEST_VARIANCE = 1e-6  # of the largest: bands that are the sum of others have no component of their own
_SCALED_STAMPS = 2000  # more of them change the mean and deviation of a band by less than a thousandth


@dataclass(frozen=True)
class ImageScaling:
    """Means and standard deviations of labels, bands, and the two values that stand for the parallax.

    Pixels of a star are nearly alike in all bands: what makes its colours is a hundredth of their variance. As
    principal components of variance one, colours are as large as brightness, and a network learns from them sooner.

    Attributes
    ----------
    label_mean, label_std : tuple of float
        Of each label, in its unit.
    band_mean, band_std : tuple of float
        Of the stretched pixels of each band.
    parallax_mean, parallax_std : tuple of 2 float
        Of what ``Head.parallax_input`` makes of parallax and error; 0 and 1 for a network without parallax.
    components : tuple of tuple of float, or None
        The principal components of the standardised bands, over their standard deviation each: rows of a matrix that a
        pixel's bands are multiplied by. None: bands stay as they are.
    """

    label_mean: tuple[float, ...]
    label_std: tuple[float, ...]
    band_mean: tuple[float, ...]
    band_std: tuple[float, ...]
    parallax_mean: tuple[float, float] = (0.0, 0.0)
    parallax_std: tuple[float, float] = (1.0, 1.0)
    components: tuple[tuple[float, ...], ...] | None = None

    @classmethod
    def of(
        cls, stamps: NDArray, parallax: NDArray | None, labels: NDArray[np.float64], network: ImageNetwork
    ) -> ImageScaling:
        """Scaling of a training sample.

        The outermost 0.1 per cent of the pixels of a band, and of the parallaxes, count as the value there.

        Parameters
        ----------
        stamps : ndarray, shape (n, n_bands, size, size)
            As stored, NaN where missing; at most 2000 of them, evenly spaced, are looked at.
        parallax : ndarray, shape (n, 2), or None
            Parallax and error, mas; only a network without parallax does without.
        labels : ndarray, shape (n, n_labels)
        network : ImageNetwork

        Raises
        ------
        ModelError
            If a label is missing, a band has no pixel at all, or no star a usable parallax.
        """
        bad = int((~np.isfinite(labels)).any(axis=1).sum())
        if bad or not len(labels):
            raise ModelError("stars without labels cannot train", seen=f"{bad} of {len(labels)}", needed="none")
        label = Scaling.of(labels)
        few = stamps[:: max(-(-len(stamps) // _SCALED_STAMPS), 1)]
        bands = [_finite_scaling(few[:, band].reshape(-1), f"band {band}") for band in range(stamps.shape[1])]
        band_mean, band_std = zip(*bands, strict=True)
        scaling = cls(_floats(label.mean), _floats(label.deviation), band_mean, band_std)
        if network.bands == "components":
            scaling = replace(scaling, components=_components(few, scaling))
        if not network.parallax:
            return scaling
        if parallax is None:
            raise ModelError("the network needs parallaxes", seen="none", needed="parallax and error of each star")
        inputs = _parallax_inputs(parallax[:, 0], parallax[:, 1], network.head)
        usable = inputs[np.isfinite(inputs).all(axis=1)]
        first, second = (_finite_scaling(usable[:, column], "the parallax") for column in (0, 1))
        return replace(scaling, parallax_mean=(first[0], second[0]), parallax_std=(first[1], second[1]))

    def standard_labels(self, labels: NDArray[np.float64]) -> NDArray[np.float32]:
        """Labels (n, n_labels) of mean zero and deviation one."""
        return ((labels - np.array(self.label_mean)) / np.array(self.label_std)).astype(np.float32)

    def restore_labels(self, values: NDArray) -> NDArray[np.float64]:
        """Labels in their units from standardised ones, shape (..., n_labels)."""
        return np.asarray(values, dtype=np.float64) * np.array(self.label_std) + np.array(self.label_mean)

    def restore_spread(self, values: NDArray) -> NDArray[np.float64]:
        """Standard deviations in the units of the labels from those of standardised labels, shape (..., n_labels)."""
        return np.asarray(values, dtype=np.float64) * np.array(self.label_std)


def standard_stamps(stamps: NDArray, scaling: ImageScaling) -> NDArray[np.float32]:
    """Standardised stamps (n, n_bands, size, size) of stored ones; a missing pixel is the mean of its band.

    The mean says nothing about the star; whether so much is missing that the star gets no parameters is for the
    flags to tell (``MISSING_PIXELS``, ``INCOMPLETE_BANDS``). Before components are made, it is the mean of the bands
    that know the pixel: in a bright pixel the mean of its band would be a colour that no star has.
    """
    result = stamps.astype(np.float32)
    result -= np.array(scaling.band_mean, dtype=np.float32)[:, None, None]
    result /= np.array(scaling.band_std, dtype=np.float32)[:, None, None]
    missing = np.isnan(result)
    result[missing] = 0.0
    if scaling.components is None:
        return result
    known = np.maximum((~missing).sum(axis=1, keepdims=True), 1).astype(np.float32)
    result = np.where(missing, result.sum(axis=1, keepdims=True) / known, result)
    mixed = np.matmul(np.array(scaling.components, dtype=np.float32), result.reshape(*result.shape[:2], -1))
    return mixed.reshape(result.shape)


def standard_tensor(stamps: Tensor, scaling: ImageScaling) -> Tensor:
    """What :func:`standard_stamps` does, on the device where the stored stamps already are."""
    import torch

    values = stamps.to(torch.float32, copy=True)
    mean, std, components = _band_tensors(scaling, values.device)
    values = values.sub_(mean).div_(std)
    if components is None:
        return values.nan_to_num_(nan=0.0)
    missing = values.isnan()
    values = values.nan_to_num_(nan=0.0)
    known = (~missing).sum(dim=1, keepdim=True).clamp_(min=1)
    values = torch.where(missing, values.sum(dim=1, keepdim=True) / known, values)
    return torch.matmul(components, values.flatten(2)).view(values.shape)


@lru_cache(maxsize=32)
def _band_tensors(scaling: ImageScaling, device: torch.device) -> tuple[Tensor, Tensor, Tensor | None]:
    """What bands are scaled by, sent once: whoever sends numbers of Python to a GPU waits for all its work."""
    import torch

    with torch.inference_mode(False):
        sent = partial(torch.tensor, dtype=torch.float32, device=device)
        components = None if scaling.components is None else sent(scaling.components)
        return sent(scaling.band_mean)[:, None, None], sent(scaling.band_std)[:, None, None], components


def standard_parallax(
    parallax_mas: NDArray, error_mas: NDArray, scaling: ImageScaling, head: Head
) -> NDArray[np.float32]:
    """Standardised parallax inputs (n, 2).

    ``linear``: parallax and error. ``log``: log10 of the parallax (mas) and of its relative error. Where a value is
    missing, the error is not above zero or, with ``log``, the parallax is not, both are NaN: the caller flags
    such a star.
    """
    inputs = _parallax_inputs(parallax_mas, error_mas, head)
    return ((inputs - np.array(scaling.parallax_mean)) / np.array(scaling.parallax_std)).astype(np.float32)


def _parallax_inputs(parallax_mas: NDArray, error_mas: NDArray, head: Head) -> NDArray[np.float64]:
    parallax, error = np.asarray(parallax_mas, dtype=np.float64), np.asarray(error_mas, dtype=np.float64)
    usable = np.isfinite(parallax) & np.isfinite(error) & (error > 0)
    if head.parallax_input == "log":
        usable &= parallax > 0
        parallax, error = np.where(usable, parallax, np.nan), np.where(usable, error, np.nan)
        return np.column_stack([np.log10(parallax), np.log10(error / parallax)])
    return np.where(usable[:, None], np.column_stack([parallax, error]), np.nan)


def _components(stamps: NDArray, scaling: ImageScaling) -> tuple[tuple[float, ...], ...]:
    """Principal components of the bands, the largest first, each with its largest band positive, over its deviation."""
    n_bands = stamps.shape[1]
    products, n = np.zeros((n_bands, n_bands)), 0
    for start in range(0, len(stamps), _STAMPS_AT_ONCE):
        some = standard_stamps(stamps[start : start + _STAMPS_AT_ONCE], scaling).astype(np.float64)
        pixels = some.transpose(1, 0, 2, 3).reshape(n_bands, -1)
        products, n = products + pixels @ pixels.T, n + pixels.shape[1]
    variances, vectors = np.linalg.eigh(products / n)
    variances = np.maximum(variances, _SMALLEST_VARIANCE * variances.max())
    rows = (vectors / np.sqrt(variances)).T[::-1]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1, keepdims=True), axis=1)
    return tuple(_floats(row) for row in rows * np.sign(largest))


def _finite_scaling(values: NDArray, what: str) -> tuple[float, float]:
    """Mean and deviation of the finite values, the outermost drawn in."""
    finite = values[np.isfinite(values)].astype(np.float64)
    if not len(finite):
        raise ModelError(f"no training star has {what}", seen=f"{len(values)} missing values")
    scaling = Scaling.of(finite, clip=True)
    return float(scaling.mean), float(scaling.deviation)


def _floats(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(map(float, values))
