"""CSWin in numpy, one star, one stripe and one head at a time: what the fast network is held to.

Maps are arrays (rows, columns, channels). Weights are those of the torch module by name, as arrays; the dtype of the
weights is that of the sums.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from stellarscale.settings.image_network import Backbone

EPSILON = 1e-5  # of the LayerNorm, under the root

Weights = Mapping[str, NDArray]


def features_loop(stamps: NDArray, weights: Weights, backbone: Backbone) -> NDArray:
    """Features (n, channels) of stamps (n, bands, size, size)."""
    return np.stack([star_features(np.moveaxis(stamp, 0, -1), weights, backbone) for stamp in stamps])


def star_features(x: NDArray, weights: Weights, backbone: Backbone) -> NDArray:
    """Features of one star."""
    for stage, depth in enumerate(backbone.depths):
        x = convolve(x, part(weights, f"stages.{stage}.0.conv"))
        x = layer_norm(x, part(weights, f"stages.{stage}.0.norm")) if backbone.merge_norm else x
        for block in range(1, depth + 1):
            own = part(weights, f"stages.{stage}.{block}")
            x = block_loop(x, own, heads=backbone.heads[stage], stripe=backbone.stripes[stage])
    x = layer_norm(x, part(weights, "norm"))
    return x.reshape(-1, x.shape[-1]).mean(axis=0)


def block_loop(x: NDArray, weights: Weights, *, heads: int, stripe: int) -> NDArray:
    """One block on a map (size, size, channels)."""
    size, _, channels = x.shape
    qkv = dense(layer_norm(x, part(weights, "norm1")), part(weights, "qkv"))
    query, key, value = qkv[..., :channels], qkv[..., channels : 2 * channels], qkv[..., 2 * channels :]
    whole = stripe == size
    shapes = [(size, size)] if whole else [(stripe, size), (size, stripe)]
    share, width = channels // len(shapes), channels // heads
    attended = np.zeros_like(x)
    for group, (high, wide) in enumerate(shapes):
        lepe = part(weights, f"groups.{group}.lepe")
        for top in range(0, size, high):
            for left in range(0, size, wide):
                here = np.s_[top : top + high, left : left + wide]
                for head in range(heads // len(shapes)):
                    begin = group * share + head * width
                    some = np.s_[..., begin : begin + width]
                    attended[here][some] = attention(query[here][some], key[here][some], value[here][some])
                own = np.s_[..., group * share : (group + 1) * share]
                attended[here][own] += convolve_each_channel(value[here][own], lepe)
    x = x + dense(attended, part(weights, "proj"))
    hidden = gelu(dense(layer_norm(x, part(weights, "norm2")), part(weights, "dense1")))
    return x + dense(hidden, part(weights, "dense2"))


def attention(query: NDArray, key: NDArray, value: NDArray) -> NDArray:
    """Each token of a stripe asks all others: softmax(q k / sqrt(d)) v, for one head."""
    width = query.shape[-1]
    keys, values = key.reshape(-1, width), value.reshape(-1, width)
    result = np.zeros_like(query)
    for row, column in np.ndindex(query.shape[:2]):
        score = keys @ query[row, column] / np.sqrt(np.asarray(width, dtype=keys.dtype))
        weight = np.exp(score - score.max())
        result[row, column] = (weight / weight.sum()) @ values
    return result


def convolve_each_channel(x: NDArray, weights: Weights) -> NDArray:
    """3 x 3 convolution of each channel by itself, zeros beyond the border."""
    high, wide, _ = x.shape
    result = np.zeros_like(x) + weights["bias"]
    for row, column in np.ndindex(high, wide):
        for i, j in np.ndindex(3, 3):
            above, beside = row + i - 1, column + j - 1
            if 0 <= above < high and 0 <= beside < wide:
                result[row, column] += weights["weight"][:, 0, i, j] * x[above, beside]
    return result


def convolve(x: NDArray, weights: Weights) -> NDArray:
    """Convolution of stride 2 over all channels, zeros beyond the border."""
    kernel = weights["weight"].shape[-1]
    reach = kernel // 2
    padded = np.pad(x, ((reach, reach), (reach, reach), (0, 0)))
    rows, columns = (x.shape[0] + 1) // 2, (x.shape[1] + 1) // 2
    result = np.zeros((rows, columns, len(weights["weight"])), dtype=x.dtype)
    for row, column in np.ndindex(rows, columns):
        patch = padded[2 * row : 2 * row + kernel, 2 * column : 2 * column + kernel]
        result[row, column] = np.einsum("ijc,ocij->o", patch, weights["weight"]) + weights["bias"]
    return result


def layer_norm(x: NDArray, weights: Weights) -> NDArray:
    """Each token of mean zero and variance one, scaled and shifted."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + np.asarray(EPSILON, dtype=x.dtype)) * weights["weight"] + weights["bias"]


def dense(x: NDArray, weights: Weights) -> NDArray:
    """A dense layer on every token."""
    return x @ weights["weight"].T + weights["bias"]


def gelu(x: NDArray) -> NDArray:
    """x times the normal distribution function at x."""
    return (x * (1 + erf(x / np.sqrt(2.0))) / 2).astype(x.dtype)


def part(weights: Weights, name: str) -> dict[str, NDArray]:
    """Weights of one module of those of a network, without its name in front."""
    return {key[len(name) + 1 :]: value for key, value in weights.items() if key.startswith(f"{name}.")}
