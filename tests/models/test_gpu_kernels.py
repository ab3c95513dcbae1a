"""Kernels of a GPU: what is chosen for a while, and given back. No GPU is needed to ask torch for them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends  # noqa: E402

from stellarscale.models.gpu_kernels import chosen_kernels  # noqa: E402


def state():
    return torch.backends.cudnn.allow_tf32, torch.backends.cudnn.enabled, torch.backends.cudnn.deterministic


def test_convolutions_are_fp32_and_attention_is_torchs_own_for_a_while():
    before, backends = state(), set(_cur_sdpa_kernel_backends())
    assert before[:2] == (True, True)
    with chosen_kernels("cuda"):
        assert state() == (False, True, before[2])
        first = _cur_sdpa_kernel_backends(with_priority=True)[:2]
        assert first == [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
        assert SDPBackend.CUDNN_ATTENTION not in _cur_sdpa_kernel_backends()
    assert (state(), set(_cur_sdpa_kernel_backends())) == (before, backends)


def test_the_users_wish_for_deterministic_convolutions_is_kept():
    with torch.backends.cudnn.flags(enabled=True, deterministic=True), chosen_kernels("cuda"):
        assert torch.backends.cudnn.deterministic


def test_kernels_are_given_back_after_an_error():
    before = state()
    with pytest.raises(KeyError), chosen_kernels("cuda"):
        raise KeyError
    assert state() == before


def test_nothing_changes_on_a_cpu():
    before, backends = state(), _cur_sdpa_kernel_backends()
    with chosen_kernels("cpu"):
        assert (state(), _cur_sdpa_kernel_backends()) == (before, backends)
