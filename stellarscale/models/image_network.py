"""The whole network on images: CSWin features, parallax branch, head with dropout (paper III, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from stellarscale.errors import ModelError
from stellarscale.models.cswin import CSWin, initialise
from stellarscale.settings.image_network import ImageNetwork

_SAMPLED_BYTES = 4 << 20  # of masked weights, or of hidden values, at a time: what a processor's caches hold
_SAMPLED_BYTES_GPU = 256 << 20

Mask = NDArray[np.bool_] | Tensor


class ImageRegressor(nn.Module):
    """Labels from standardised stamps and parallaxes.

    The dense layers of the head drop a share of their inputs while training, and again when predicting: there by
    masks that are drawn once, so that each mask is one network that predicts every star (section 3.3).

    Parameters
    ----------
    network : ImageNetwork
    n_bands, size_px : int
        Shape of a stamp.
    n_outputs : int
        Labels.

    Raises
    ------
    ConfigError
        If stamps of this size cannot pass the stages.
    """

    def __init__(self, network: ImageNetwork, *, n_bands: int, size_px: int, n_outputs: int) -> None:
        super().__init__()
        head = network.head
        self.rate = head.dropout
        self.backbone = CSWin(network.backbone, n_bands=n_bands, size_px=size_px)
        self.parallax_dense = nn.Linear(2, head.parallax_units) if network.parallax else None
        joined = network.backbone.channels[-1] + (head.parallax_units if network.parallax else 0)
        self.dense = nn.ModuleList(nn.Linear(*sizes) for sizes in pairwise((joined, *head.hidden, n_outputs)))

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs of each dense layer of the head, as :func:`dropout_masks` needs them."""
        return tuple(dense.in_features for dense in self._layers)

    @property
    def _layers(self) -> list[nn.Linear]:
        return cast("list[nn.Linear]", list(self.dense))

    def forward(self, stamps: Tensor, parallax: Tensor | None) -> Tensor:
        """Standardised labels (n, n_outputs); inputs of the head are dropped in training mode only."""
        return self.head(self.features(stamps), parallax)

    def features(self, stamps: Tensor) -> Tensor:
        """Features (n, channels) of standardised stamps (n, n_bands, size_px, size_px).

        They have the precision of the head also where the backbone works in a lower one, under autocast.
        """
        features: Tensor = self.backbone(stamps)
        return features.to(self._layers[0].weight.dtype)

    def head(self, features: Tensor, parallax: Tensor | None, masks: Sequence[Mask] | None = None) -> Tensor:
        """Standardised labels (n, n_outputs) from features (n, channels) and standardised parallaxes (n, 2).

        Parameters
        ----------
        features, parallax : Tensor
            A network without parallax ignores the second.
        masks : sequence of bool (width,) or (n, width), optional
            Inputs that each dense layer keeps, the same for all stars or each star's own. None: random in training
            mode, all otherwise.
        """
        x = self._joined(features, parallax)
        for layer, dense in enumerate(self._layers):
            if masks is None:
                kept = functional.dropout(x, self.rate, self.training)
            else:
                kept = x * self._factors(masks[layer], x)
            x = dense(kept)
            x = functional.relu(x) if layer < len(self._layers) - 1 else x
        return x

    def sample_head(self, features: Tensor, parallax: Tensor | None, masks: Sequence[Mask]) -> Tensor:
        """Standardised labels of all sampled networks, (samples, n, n_outputs).

        Every sample predicts every star with its own mask, so that a star's labels do not depend on which others
        are in its batch. What is dropped is dropped from the weights: all samples are one batched product a layer.

        Parameters
        ----------
        features, parallax : Tensor, (n, channels) and (n, 2)
        masks : sequence of bool (samples, width)
            From :func:`dropout_masks`.
        """
        joined = self._joined(features, parallax)
        factors = [self._factors(mask, joined) for mask in masks]
        widest = max(dense.out_features * max(dense.in_features, len(joined)) for dense in self._layers)
        room = _SAMPLED_BYTES if joined.device.type == "cpu" else _SAMPLED_BYTES_GPU
        step = max(room // (widest * joined.element_size()), 1)
        chunks = zip(*(factor.split(step) for factor in factors), strict=True)
        return torch.cat([self._sampled(joined, chunk) for chunk in chunks])

    def _sampled(self, x: Tensor, factors: Sequence[Tensor]) -> Tensor:
        x = x.expand(len(factors[0]), *x.shape)
        for layer, (dense, factor) in enumerate(zip(self._layers, factors, strict=True)):
            weight = (dense.weight * factor[:, None, :]).transpose(1, 2)
            x = torch.baddbmm(dense.bias, x, weight)
            x = x.relu_() if layer < len(self._layers) - 1 else x
        return x

    def _joined(self, features: Tensor, parallax: Tensor | None) -> Tensor:
        """Features and parallax branch side by side."""
        if self.parallax_dense is None:
            return features
        if parallax is None:
            raise ModelError("the network needs parallaxes", seen="none", needed="parallax and error of each star")
        return torch.cat([features, functional.relu(self.parallax_dense(parallax)).to(features.dtype)], dim=-1)

    def _factors(self, mask: Mask, like: Tensor) -> Tensor:
        """What kept inputs are multiplied by, so that the sum keeps its size; 0 for the others."""
        return torch.as_tensor(mask, device=like.device).to(like.dtype) / (1.0 - self.rate)


def build_network(network: ImageNetwork, *, n_bands: int, size_px: int, n_outputs: int, seed: int) -> ImageRegressor:
    """A network with fresh weights on the CPU; the same seed gives the same weights, whatever ran before.

    Raises
    ------
    ConfigError
        If stamps of this size cannot pass the stages.
    """
    result = empty_network(network, n_bands=n_bands, size_px=size_px, n_outputs=n_outputs).to_empty(device="cpu")
    initialise(result, torch.Generator().manual_seed(seed), network.backbone.initial_std)
    return result


def empty_network(network: ImageNetwork, *, n_bands: int, size_px: int, n_outputs: int) -> ImageRegressor:
    """A network that has shapes but no weights yet (torch's device ``meta``); drawing none, it costs no time.

    Raises
    ------
    ConfigError
        If stamps of this size cannot pass the stages.
    """
    with torch.device("meta"):
        return ImageRegressor(network, n_bands=n_bands, size_px=size_px, n_outputs=n_outputs)


def dropout_masks(seed: int, samples: int, widths: Sequence[int], rate: float) -> list[NDArray[np.bool_]]:
    """Inputs that each sampled network keeps: one array (samples, width) for each dense layer.

    Drawn by numpy, hence the same on every device; fewer samples of a seed are the first of more.
    """
    kept = np.random.default_rng(seed).random((samples, sum(widths))) >= rate
    return np.split(kept, np.cumsum(widths)[:-1], axis=1)
