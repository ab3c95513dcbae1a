"""Batches of stamps through networks on a GPU or a CPU: one pass at a time in a process, each of the same shape."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from stellarscale.errors import ModelError
from stellarscale.models.gpu_kernels import chosen_kernels
from stellarscale.settings.image_network import ImagePrediction

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
_BATCH_SIZES = {"cpu": 256, "cuda": 1024}
"""Stars of a pass. A pass of the paper's network is a thousand kernels: so many stars keep a GPU busy for longer than a
processor takes to launch them."""

T = TypeVar("T")

# Passes follow each other on one thread: each has all cores of the process, and torch keeps a pool of threads for every
# thread that calls it. Tasks that wait for theirs read and write meanwhile.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="networks")


@dataclass(frozen=True)
class Passes:
    """How batches go through networks.

    Every pass has the same number of stars: a batch that is short is filled up with its last star, and what becomes
    of the filling is thrown away. No shape is then met, and perhaps compiled for, a second time, and a star's numbers
    do not depend on how many others came with it.

    Attributes
    ----------
    device : str
        ``cuda`` or ``cpu``, of torch.
    precision : str
        ``fp32`` or ``bf16``, of the backbone.
    threads : int
        Cores that a pass on the CPU takes.
    batch_size : int
        Stars of a pass.
    """

    device: str
    precision: str
    threads: int
    batch_size: int

    @classmethod
    def of(cls, settings: ImagePrediction, *, threads: int | None = None) -> Passes:
        """On the GPU if torch finds one, else on the CPU, which is told; by default with all of torch's threads."""
        import torch

        device = _device()
        batch_size = _BATCH_SIZES[device] if settings.batch_size == "auto" else settings.batch_size
        passes = cls(device, _precision(settings, device), threads or torch.get_num_threads(), batch_size)
        told = "networks on images: %s, %s, %d stars a pass, threads of the CPU: %d"
        log.info(told, passes.device, passes.precision, passes.batch_size, passes.threads)
        return passes

    def do(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function on the thread of the passes, with this number of cores."""
        return _THREAD.submit(self._called, function, *args).result()

    def batches(
        self, function: Callable[[Tensor, NDArray[np.int64]], Tensor], stamps: NDArray, rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """What a function gives for some stars, (n_rows, width), on this thread.

        Parameters
        ----------
        function : callable
            Of stamps on the device and their rows; returns (batch_size, width) on the device.
        stamps : ndarray, shape (n, n_bands, size, size)
            As stored.
        rows : ndarray of int64, shape (n_rows,)
            At least one.

        Returns
        -------
        ndarray of float32
            NaN for a star of which a band has no pixel at all.

        Raises
        ------
        ModelError
            If a pass does not fit into the memory of a GPU.
        """
        import torch

        try:
            with torch.inference_mode():
                starts = range(0, len(rows), self.batch_size)
                results = [self._one(function, stamps, rows[start : start + self.batch_size]) for start in starts]
                return torch.cat(results).cpu().numpy()  # only here a GPU is waited for
        except torch.OutOfMemoryError as error:
            raise ModelError(
                "the memory of the device is full",
                where=f"{self.batch_size} stars a pass on {self.device}, {self.precision}",
                seen=str(error).splitlines()[0],
                cause="`prediction.batch_size` is too large for it, or others use it too: lower it",
            ) from error

    def sent(self, values: NDArray) -> Tensor:
        """Values on the device; a GPU fetches them from pinned memory, and nobody waits until it has."""
        import torch

        host = torch.from_numpy(values)
        return host if self.device == "cpu" else host.pin_memory().to(self.device, non_blocking=True)

    def lowered(self) -> AbstractContextManager[Any]:
        """The context in which a backbone has the precision."""
        import torch

        return torch.autocast(self.device, torch.bfloat16) if self.precision == "bf16" else nullcontext()

    def _called(self, function: Callable[..., T], *args: Any) -> T:
        import torch

        if self.device == "cpu":
            torch.set_num_threads(self.threads)
        with chosen_kernels(self.device):
            return function(*args)

    def _one(
        self, function: Callable[[Tensor, NDArray[np.int64]], Tensor], stamps: NDArray, rows: NDArray[np.int64]
    ) -> Tensor:
        """One pass, on the device."""
        import torch

        filled = np.concatenate([rows, np.repeat(rows[-1:], self.batch_size - len(rows))])
        on_device = self._gathered(stamps, filled)
        empty = torch.isnan(on_device).flatten(2).all(dim=2).any(dim=1)
        return function(on_device, filled).masked_fill(empty[:, None], torch.nan)[: len(rows)]

    def _gathered(self, stamps: NDArray, rows: NDArray[np.int64]) -> Tensor:
        """Stamps of some rows on the device; a GPU takes them from pinned memory, while it works on the last ones."""
        import torch

        kind = torch.from_numpy(np.empty(0, dtype=stamps.dtype)).dtype
        host = torch.empty((len(rows), *stamps.shape[1:]), dtype=kind, pin_memory=self.device != "cpu")
        np.take(stamps, rows, axis=0, out=host.numpy(), mode="clip")
        return host.to(self.device, non_blocking=True)


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        say_no_gpu()
        return "cpu"
    if torch.cuda.device_count() > 1:
        _say_one_of(torch.cuda.device_count())
    return "cuda"


@lru_cache(maxsize=1)
def _say_one_of(gpus: int) -> None:
    told = "a process predicts on one GPU, the first of %d: start a Dask worker for each, with CUDA_VISIBLE_DEVICES"
    log.warning(told, gpus)


@lru_cache(maxsize=1)
def say_no_gpu() -> None:
    """Warn, once in a process, that networks run on the CPU."""
    log.warning("torch finds no GPU: networks on images run on the CPU")


def _precision(settings: ImagePrediction, device: str) -> str:
    import torch

    if settings.precision != "auto":
        return settings.precision
    if device == "cuda":
        faster = torch.cuda.is_bf16_supported(including_emulation=False)
    else:  # one without these instructions is slower with bf16 than with fp32
        faster = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if faster else "fp32"
