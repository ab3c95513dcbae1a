"""Parameters of stamps by networks on images: the backbone once, then samples of the head (paper III, section 3.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError
from stellarscale.kernels.conformal import FEWEST
from stellarscale.kernels.stats import robust_sigma
from stellarscale.models.image_inputs import standard_parallax, standard_tensor
from stellarscale.models.image_passes import Passes
from stellarscale.models.image_store import ImageModel, check_stamps, load_image_model, restore_network
from stellarscale.models.network import require_torch
from stellarscale.models.streams import stream_seed
from stellarscale.settings.image_network import ImagePrediction
from stellarscale.stamp_columns import StampFormat

if TYPE_CHECKING:
    from torch import Tensor

    from stellarscale.models.image_network import ImageRegressor

Floats = NDArray[np.float64]
Stamps = NDArray[np.floating]
ModelFiles = tuple[tuple[Path, str], ...]
"""Path and SHA-256 of each network."""

_LOADING = Lock()


@dataclass(frozen=True, eq=False)
class _Network:
    """A network on its device, its backbone as it is called, and the masks of its samples."""

    model: ImageModel
    regressor: ImageRegressor
    features: Callable[[Tensor], Tensor]
    masks: list[Tensor]


class ImagePredictor:
    """Networks that give parameters: one for each, or one for several.

    All stars are predicted by the same samples of the head, and in passes of one shape (:class:`Passes`): a star's
    numbers do not depend on its batch.

    Parameters
    ----------
    models : sequence of (ImageModel, weights by name)
        As :func:`stellarscale.models.image_store.load_image_model` gives them.
    settings : ImagePrediction
    threads : int, optional
        Cores that a pass on the CPU takes; as many as torch takes by default.

    Raises
    ------
    ModelError
        If torch is not installed, there is no network, two give one parameter, or they look at different stamps.
    """

    def __init__(
        self,
        models: Sequence[tuple[ImageModel, Any]],
        settings: ImagePrediction,
        *,
        threads: int | None = None,
    ) -> None:
        require_torch()
        self.models = tuple(model for model, _ in models)
        _check_together(self.models)
        self.settings = settings
        self.passes = Passes.of(settings, threads=threads)
        self._networks = self.passes.do(lambda: [self._on_device(*each) for each in models])

    @property
    def labels(self) -> tuple[str, ...]:
        """Parameters, in the order of the results' columns."""
        return tuple(label for model in self.models for label in model.labels)

    @property
    def about(self) -> dict[str, str]:
        """On what the networks run, for records."""
        return {"device": self.passes.device, "precision": self.passes.precision}

    def check_stamps(self, layout: StampFormat) -> None:
        """Refuse stamps that the networks were not trained on; :class:`ModelError` names what differs."""
        check_stamps(self.models[0], layout)

    def knows(self, parallax_mas: Floats, error_mas: Floats) -> NDArray[np.bool_]:
        """Which stars have the parallax and error (mas) that the networks need, shape (n,); all if they need none."""
        known = np.ones(len(parallax_mas), dtype=bool)
        for model in self.models:
            if model.network.parallax:
                inputs = standard_parallax(parallax_mas, error_mas, model.scaling, model.network.head)
                known &= np.isfinite(inputs).all(axis=1)
        return known

    def estimate(self, stamps: Stamps, parallax_mas: Floats, error_mas: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation over the samples of each network.

        Parameters
        ----------
        stamps : ndarray, shape (n, n_bands, size, size)
            As stored; NaN: missing pixel.
        parallax_mas, error_mas : ndarray of float64, shape (n,)
            NaN where unknown; networks without parallax ignore them.

        Returns
        -------
        mean, std : ndarray of float64, shape (n, n_labels)
            In the labels' units. NaN where :meth:`knows` says so, or a band has no pixel at all.
        """
        known = np.flatnonzero(self.knows(parallax_mas, error_mas))
        parallax = [self._parallax_of(model, parallax_mas, error_mas) for model in self.models]

        def sampled(batch: Tensor, rows: NDArray[np.int64]) -> Tensor:
            return self._sampled(batch, [None if each is None else each[rows] for each in parallax])

        found = self._passed(sampled, stamps, known, 2 * len(self.labels))
        mean, std = (np.full((len(stamps), len(self.labels)), np.nan) for _ in range(2))
        mean[known], std[known] = np.split(found, 2, axis=1)
        means, deviations = (
            np.concatenate([getattr(model.scaling, name) for model in self.models])
            for name in ("label_mean", "label_std")
        )
        return mean * deviations + means, std * deviations

    def features(self, stamps: Stamps) -> NDArray[np.float32]:
        """What the backbones make of stamps: (n, channels), those of several networks side by side.

        NaN where a band has no pixel at all.
        """
        width = sum(model.network.backbone.channels[-1] for model in self.models)
        return self._passed(lambda batch, _: self._featured(batch), stamps, np.arange(len(stamps)), width)

    def _on_device(self, model: ImageModel, weights: Any) -> _Network:
        import torch

        from stellarscale.models.cswin import lower_weights
        from stellarscale.models.image_network import dropout_masks

        regressor = restore_network(model, weights).to(self.passes.device)
        if self.passes.precision == "bf16":
            lower_weights(regressor.backbone)
        features = torch.compile(regressor.features, dynamic=False) if self.settings.compile else regressor.features
        seed = stream_seed(model.seed, "samples", *model.labels)
        masks = dropout_masks(seed, self.settings.samples, regressor.widths, regressor.rate)
        return _Network(model, regressor, features, [torch.from_numpy(mask).to(self.passes.device) for mask in masks])

    def _parallax_of(self, model: ImageModel, parallax_mas: Floats, error_mas: Floats) -> NDArray[np.float32] | None:
        if not model.network.parallax:
            return None
        return standard_parallax(parallax_mas, error_mas, model.scaling, model.network.head)

    def _passed(
        self,
        function: Callable[[Tensor, NDArray[np.int64]], Tensor],
        stamps: Stamps,
        rows: NDArray[np.int64],
        width: int,
    ) -> NDArray[np.float32]:
        if not len(rows):
            return np.empty((0, width), dtype=np.float32)
        return self.passes.do(self.passes.batches, function, stamps, rows)

    def _featured(self, batch: Tensor) -> Tensor:
        import torch

        return torch.cat([self._features_of(network, batch) for network in self._networks], dim=1)

    def _sampled(self, batch: Tensor, parallax: Sequence[NDArray[np.float32] | None]) -> Tensor:
        """Standardised means and deviations of all labels, (n, 2 n_labels)."""
        import torch

        means, deviations = [], []
        for network, inputs in zip(self._networks, parallax, strict=True):
            features = self._features_of(network, batch)
            given = None if inputs is None else self.passes.sent(inputs)
            samples = network.regressor.sample_head(features, given, network.masks)
            deviation, mean = torch.std_mean(samples, dim=0)
            means.append(mean)
            deviations.append(deviation)
        return torch.cat([*means, *deviations], dim=1)

    def _features_of(self, network: _Network, batch: Tensor) -> Tensor:
        standard = standard_tensor(batch, network.model.scaling)
        with self.passes.lowered():
            features = network.features(standard)
        return features.float()


def load_predictor(files: ModelFiles, settings: ImagePrediction, *, threads: int | None = None) -> ImagePredictor:
    """Networks ready to predict, loaded once per process, files and settings; arguments as :class:`ImagePredictor`.

    Raises
    ------
    ModelError
        As :func:`stellarscale.models.image_store.load_image_model` and :class:`ImagePredictor`.
    """
    with _LOADING:  # of tasks that begin together, one loads
        return _loaded(files, settings, threads)


@lru_cache(maxsize=4)
def _loaded(files: ModelFiles, settings: ImagePrediction, threads: int | None) -> ImagePredictor:
    models = [load_image_model(path, expect_digest=digest) for path, digest in files]
    return ImagePredictor(models, settings, threads=threads)


def precision_change(
    fast: ImagePredictor,
    plain: ImagePredictor,
    stamps: Stamps,
    parallax: tuple[Floats, Floats],
    labels: Floats | None = None,
) -> Floats:
    """How much labels change by a lower precision or by compilation, in units of their error.

    Parameters
    ----------
    fast, plain : ImagePredictor
        Of the same networks.
    stamps : ndarray, shape (n, n_bands, size, size)
    parallax : tuple of 2 ndarray of float64, shape (n,)
        Parallaxes and errors, mas.
    labels : ndarray of float64, shape (n, n_labels), optional
        What the stars are known to be; NaN where they are not.

    Returns
    -------
    ndarray of float64, shape (n_labels,)
        Root mean square of the changes over the error: 1.4826 MAD of what the plain networks are wrong by. With fewer
        than 20 known stars, the standard deviation over samples stands for it. NaN without stars.
    """
    mean, std = plain.estimate(stamps, *parallax)
    change = fast.estimate(stamps, *parallax)[0] - mean
    result = np.full(mean.shape[1], np.nan)
    for number in range(mean.shape[1]):
        known = np.isfinite(change[:, number])
        wrong = np.empty(0) if labels is None else labels[known, number] - mean[known, number]
        wrong = wrong[np.isfinite(wrong)]
        error = robust_sigma(wrong) if len(wrong) >= FEWEST else _rms(std[known, number])
        result[number] = _rms(change[known, number]) / error if error > 0 else np.nan
    return result


def _rms(values: Floats) -> float:
    return float(np.sqrt(np.mean(values**2))) if len(values) else np.nan


def _check_together(models: Sequence[ImageModel]) -> None:
    if not models:
        raise ModelError("no network was given", needed="one or more")
    labels = [label for model in models for label in model.labels]
    if len(set(labels)) < len(labels):
        raise ModelError("two networks give one parameter", seen=", ".join(labels), needed="each parameter once")
    for model in models[1:]:
        check_stamps(model, models[0].stamps, where=f"networks for {', '.join(labels)}")
