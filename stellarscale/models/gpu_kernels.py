"""Which of a GPU's kernels the networks on images run on, where torch leaves a choice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def chosen_kernels(device: str) -> Iterator[None]:
    """Kernels that do not depend on the GPU's software more than they must; nothing changes on a CPU.

    Convolutions of fp32 are done in fp32: torch would let cuDNN round their inputs to the ten bits of TF32, the fluxes
    in the stem among them, and fp32 would be no measure of bf16 then. Attention is torch's own flash kernel, or the
    memory-efficient one for fp32: for Hopper torch prefers cuDNN's, which plans for long sequences and anew for each
    number of windows, while those here have 9 to 24 tokens.

    Parameters
    ----------
    device : str
        ``cuda`` or ``cpu``.
    """
    if device != "cuda":
        yield
        return
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    attention = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    deterministic = torch.backends.cudnn.deterministic
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=deterministic, allow_tf32=False),
        sdpa_kernel(attention, set_priority=True),
    ):
        yield
