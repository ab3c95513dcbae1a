"""A fully connected network of three layers (paper I, section 4), trained on one thread with streams of its own."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError
from stellarscale.models.scaling import Scaling, require_finite
from stellarscale.settings.methods import Loss, NetworkOptions

_PREDICT_ROWS = 16_384


class NetworkRegressor:
    """Dense layers with rectifiers between them; Adam, learning rate falling along a cosine.

    Inputs and labels are standardised, so that the losses, which change their shape at a deviation of one, mean the
    same for every label. The same seed gives the same network: the layers and the order of the stars are drawn from
    a generator of its own, and one thread does the sums.

    Parameters
    ----------
    loss : {'mse', 'l1', 'smooth_l1', 'log_cosh'}
    options : NetworkOptions
        Layers, epochs, batch, learning rate.
    seed : int

    Raises
    ------
    ModelError
        If torch is not installed.
    """

    def __init__(self, *, loss: Loss, options: NetworkOptions, seed: int) -> None:
        require_torch()
        self.loss, self.options, self.seed = loss, options, seed
        self._inputs: Scaling
        self._label: Scaling
        self._layers: Any

    def fit(self, x: NDArray, y: NDArray[np.float64]) -> NetworkRegressor:
        """Fit to inputs (n, n_features) and labels (n,).

        Raises
        ------
        ModelError
            If an input is missing.
        """
        import torch

        require_finite(x, "network")
        self._inputs, self._label = Scaling.of(x, clip=True), Scaling.of(y)
        rows = torch.from_numpy(self._inputs.standardise(x).astype(np.float32))
        target = torch.from_numpy(self._label.standardise(y).astype(np.float32))
        with one_thread(torch):
            generator = torch.Generator().manual_seed(self.seed)
            self._layers = dense_layers(torch, (x.shape[1], *self.options.hidden, 1), generator)
            self._descend(torch, rows, target, generator)
        return self

    def predict(self, x: NDArray) -> NDArray[np.float64]:
        """Labels (n,) of inputs (n, n_features)."""
        import torch

        result = np.empty(len(x))
        with torch.inference_mode(), one_thread(torch):
            for start in range(0, len(x), _PREDICT_ROWS):
                rows = self._inputs.standardise(x[start : start + _PREDICT_ROWS]).astype(np.float32)
                result[start : start + len(rows)] = self._layers(torch.from_numpy(rows)).squeeze(1).numpy()
        return self._label.restore(result)

    def _descend(self, torch: Any, rows: Any, target: Any, generator: Any) -> None:
        options, loss = self.options, _loss(torch, self.loss)
        optimiser = torch.optim.Adam(self._layers.parameters(), lr=options.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, options.epochs)
        for _ in range(options.epochs):
            for batch in torch.randperm(len(rows), generator=generator).split(options.batch_size):
                optimiser.zero_grad()
                loss(self._layers(rows[batch]).squeeze(1), target[batch]).backward()
                optimiser.step()
            schedule.step()


def require_torch() -> None:
    """Refuse a network where torch is not installed.

    Raises
    ------
    ModelError
        Saying which extra to install.
    """
    if importlib.util.find_spec("torch") is None:
        raise ModelError(
            "the network needs torch, which is not installed",
            needed="pip install 'stellarscale[images]'",
            cause="the extra 'images' was left out",
        )


def dense_layers(torch: Any, sizes: tuple[int, ...], generator: Any) -> Any:
    """Dense layers, initialised from the generator and not from the state that all threads share."""
    modules: list[Any] = []
    for number in range(len(sizes) - 1):
        dense = torch.nn.utils.skip_init(torch.nn.Linear, sizes[number], sizes[number + 1])
        torch.nn.init.kaiming_uniform_(dense.weight, nonlinearity="relu", generator=generator)
        torch.nn.init.zeros_(dense.bias)
        modules += [dense, torch.nn.ReLU()]
    return torch.nn.Sequential(*modules[:-1])


def _loss(torch: Any, name: Loss) -> Callable[[Any, Any], Any]:
    def log_cosh(predicted: Any, target: Any) -> Any:
        size = (predicted - target).abs()  # log cosh r = |r| + log(1 + exp(-2|r|)) - log 2, without overflow
        return (size + torch.nn.functional.softplus(-2.0 * size)).mean() - np.log(2.0)

    functions = torch.nn.functional
    return {
        "mse": functions.mse_loss,
        "l1": functions.l1_loss,
        "smooth_l1": functions.smooth_l1_loss,
        "log_cosh": log_cosh,
    }[name]


@contextmanager
def one_thread(torch: Any) -> Iterator[None]:
    """Sums in one order, whatever the machine; layers this small gain nothing from more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
