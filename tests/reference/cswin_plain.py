"""CSWin and its head as one would first write them in torch: the peer of the benchmark.

The same weights by the same names give the same labels. Attention is softmax(q k^T) v, one direction after the other;
a LayerNorm is its mean, variance, scale and shift; every sampled network is a pass of the head of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from stellarscale.settings.image_network import ImageNetwork

Weights = Mapping[str, Tensor]


def plain_features(stamps: Tensor, weights: Weights, network: ImageNetwork) -> Tensor:
    """Features (n, channels) of standardised stamps (n, bands, size, size)."""
    backbone, x = network.backbone, stamps
    for stage, depth in enumerate(backbone.depths):
        at = f"backbone.stages.{stage}"
        kernel = weights[f"{at}.0.conv.weight"]
        x = functional.conv2d(x, kernel, weights[f"{at}.0.conv.bias"], stride=2, padding=kernel.shape[-1] // 2)
        n, channels, size, _ = x.shape
        tokens = x.flatten(2).transpose(1, 2)
        tokens = norm(tokens, weights, f"{at}.0.norm") if backbone.merge_norm else tokens
        for block in range(1, depth + 1):
            tokens = plain_block(
                tokens, weights, f"{at}.{block}", heads=backbone.heads[stage], stripe=backbone.stripes[stage], size=size
            )
        x = tokens.transpose(1, 2).reshape(n, channels, size, size)
    return norm(x.flatten(2).transpose(1, 2), weights, "backbone.norm").mean(dim=1)


def plain_block(tokens: Tensor, weights: Weights, at: str, *, heads: int, stripe: int, size: int) -> Tensor:
    """One block on tokens (n, size * size, channels)."""
    channels = tokens.shape[-1]
    query, key, value = dense(norm(tokens, weights, f"{at}.norm1"), weights, f"{at}.qkv").chunk(3, dim=-1)
    shapes = [(size, size)] if stripe == size else [(stripe, size), (size, stripe)]
    share = channels // len(shapes)
    attended = []
    for group, shape in enumerate(shapes):
        q, k, v = (
            to_stripes(each[..., group * share : (group + 1) * share], shape, size) for each in (query, key, value)
        )
        mixed = attend(q, k, v, heads // len(shapes))
        local = lepe(v, shape, weights, f"{at}.groups.{group}.lepe")
        attended.append(from_stripes(mixed + local, shape, size))
    tokens = tokens + dense(torch.cat(attended, dim=-1), weights, f"{at}.proj")
    hidden = functional.gelu(dense(norm(tokens, weights, f"{at}.norm2"), weights, f"{at}.dense1"))
    return tokens + dense(hidden, weights, f"{at}.dense2")


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for tokens (stripes, length, channels)."""
    count, length, channels = query.shape
    q, k, v = (
        each.reshape(count, length, heads, channels // heads).permute(0, 2, 1, 3).contiguous()
        for each in (query, key, value)
    )
    weight = torch.softmax((q * (channels // heads) ** -0.5) @ k.transpose(-2, -1), dim=-1)
    return (weight @ v).permute(0, 2, 1, 3).reshape(count, length, channels)


def lepe(value: Tensor, shape: tuple[int, int], weights: Weights, at: str) -> Tensor:
    """Depthwise convolution of the values of each stripe."""
    count, length, channels = value.shape
    image = value.transpose(1, 2).reshape(count, channels, *shape)
    local = functional.conv2d(image, weights[f"{at}.weight"], weights[f"{at}.bias"], padding=1, groups=channels)
    return local.reshape(count, channels, length).transpose(1, 2)


def to_stripes(tokens: Tensor, shape: tuple[int, int], size: int) -> Tensor:
    """Tokens (n, size * size, channels) as (n * stripes, tokens of a stripe, channels)."""
    n, _, channels = tokens.shape
    high, wide = shape
    image = tokens.transpose(1, 2).reshape(n, channels, size // high, high, size // wide, wide)
    return image.permute(0, 2, 4, 3, 5, 1).reshape(-1, high * wide, channels)


def from_stripes(tokens: Tensor, shape: tuple[int, int], size: int) -> Tensor:
    """The way back."""
    high, wide = shape
    image = tokens.view(-1, size // high, size // wide, high, wide, tokens.shape[-1])
    return image.permute(0, 1, 3, 2, 4, 5).reshape(len(image), size * size, -1)


def norm(x: Tensor, weights: Weights, at: str) -> Tensor:
    """LayerNorm in its single steps."""
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / torch.sqrt((centred**2).mean(dim=-1, keepdim=True) + 1e-5)
    return scaled * weights[f"{at}.weight"] + weights[f"{at}.bias"]


def dense(x: Tensor, weights: Weights, at: str) -> Tensor:
    """A dense layer."""
    return functional.linear(x, weights[f"{at}.weight"], weights[f"{at}.bias"])


def plain_head(
    features: Tensor,
    parallax: Tensor | None,
    weights: Weights,
    network: ImageNetwork,
    masks: Sequence[np.ndarray] | None = None,
) -> Tensor:
    """Standardised labels (n, n_outputs) by one network of the head."""
    x = features
    if network.parallax:
        x = torch.cat([x, torch.relu(dense(parallax, weights, "parallax_dense"))], dim=1)
    last = len(network.head.hidden)
    for layer in range(last + 1):
        if masks is not None:
            x = x * torch.as_tensor(masks[layer], device=x.device) / (1.0 - network.head.dropout)
        x = dense(x, weights, f"dense.{layer}")
        x = torch.relu(x) if layer < last else x
    return x


def plain_samples(
    stamps: Tensor,
    parallax: Tensor | None,
    weights: Weights,
    network: ImageNetwork,
    masks: Sequence[np.ndarray],
) -> Tensor:
    """Labels of all samples (samples, n, n_outputs): the backbone once, then a pass of the head for each sample."""
    features = plain_features(stamps, weights, network)
    return torch.stack([plain_head(features, parallax, weights, network, sample) for sample in zip(*masks)])  # noqa: B905
