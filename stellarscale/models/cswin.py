"""The CSWin transformer on image stamps: attention inside cross-shaped stripes (paper III, section 3.1)."""

from __future__ import annotations

from math import lcm
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from stellarscale.errors import ConfigError
from stellarscale.settings.image_network import Backbone

_MOST_WINDOWS = 65535  # that CUDA lets an attention kernel take at once: 2730 stars of the paper's network


class StripeAttention(nn.Module):
    """Self-attention of the tokens inside each stripe, and of the stripe's values with their neighbours there.

    The second part is the locally enhanced positional encoding: a depthwise 3 x 3 convolution of the values, with
    zeros beyond the border of the stripe, so that nothing passes from one stripe to the next.

    Parameters
    ----------
    channels, heads : int
        Of this group of heads.
    stripe : (rows, columns)
        Tokens of a stripe; the map is tiled by them.
    """

    def __init__(self, channels: int, heads: int, stripe: tuple[int, int]) -> None:
        super().__init__()
        self.heads, self.stripe = heads, stripe
        self.lepe = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, qkv: Tensor) -> Tensor:
        """Map (n, rows, columns, channels) from queries, keys and values (n, rows, columns, 3, channels)."""
        n, rows, columns, _, channels = qkv.shape
        high, wide = self.stripe
        tiles = (n, rows // high, columns // wide)
        tiled = qkv.view(n, tiles[1], high, tiles[2], wide, 3, channels).permute(5, 0, 1, 3, 2, 4, 6)
        query, key, value = tiled.reshape(3, -1, high * wide, self.heads, channels // self.heads).unbind()
        mixed = _attended(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
        stripes = value.reshape(-1, high, wide, channels)
        local = self.lepe(stripes.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        summed = mixed.transpose(1, 2).reshape(stripes.shape) + local
        return summed.view(*tiles, high, wide, channels).permute(0, 1, 3, 2, 4, 5).reshape(n, rows, columns, channels)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of all windows, (windows, heads, tokens, channels a head)."""
    if len(query) <= _MOST_WINDOWS:
        return functional.scaled_dot_product_attention(query, key, value)
    parts = (each.split(_MOST_WINDOWS) for each in (query, key, value))
    return torch.cat([functional.scaled_dot_product_attention(*part) for part in zip(*parts, strict=True)])


class CSWinBlock(nn.Module):
    """Attention and two dense layers, each after a LayerNorm and added to what came in.

    The first half of the heads looks along horizontal stripes, the second along vertical ones. Where a stripe is as
    wide as the map, as in the last stage of the paper's network, both would be the whole map: all heads are then
    one group that looks at all of it.
    """

    def __init__(self, channels: int, heads: int, *, stripe: int, resolution: int, mlp_ratio: float) -> None:
        super().__init__()
        hidden = round(channels * mlp_ratio)
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv, self.proj = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        whole = stripe == resolution
        shapes = [(resolution, resolution)] if whole else [(stripe, resolution), (resolution, stripe)]
        parts = len(shapes)
        self.groups = nn.ModuleList(StripeAttention(channels // parts, heads // parts, shape) for shape in shapes)
        self.dense1, self.dense2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, rows, columns, channels) of the same shape."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, len(self.groups), -1))
        # Not an index for each group: the gradient of an index is a whole map of zeros with a part filled in.
        attended = torch.cat([group(part) for group, part in zip(self.groups, qkv.unbind(-2), strict=True)], dim=-1)
        x = x + self.proj(attended)
        return x + self.dense2(functional.gelu(self.dense1(self.norm2(x))))


class Halve(nn.Module):
    """A convolution of stride 2, then a LayerNorm if wanted: (n, rows, columns, channels) to half the rows, columns."""

    def __init__(self, channels: int, out_channels: int, kernel: int, *, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride=2, padding=kernel // 2)
        self.norm = nn.LayerNorm(out_channels) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """The smaller map in the precision of the larger one: the blocks add to it, and autocast would make it bf16."""
        halved: Tensor = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).to(x.dtype)
        return cast("Tensor", self.norm(halved))


class CSWin(nn.Module):
    """Features of stamps: stem, stages of blocks with a merge between them, LayerNorm, mean over the map.

    Under autocast the stem, the LayerNorms between the stages and the running sums of the blocks stay in fp32: fluxes
    rounded to the eight bits of bf16 would be wrong by a per cent, while the stem has one per cent of the operations.

    Parameters
    ----------
    backbone : Backbone
    n_bands, size_px : int
        Shape of a stamp.

    Raises
    ------
    ConfigError
        If the stages cannot halve the stamp, or a stripe does not tile its stage's map.
    """

    def __init__(self, backbone: Backbone, *, n_bands: int, size_px: int) -> None:
        super().__init__()
        sizes = resolutions(backbone, size_px)
        inward = (n_bands, *backbone.channels)
        self.stages = nn.ModuleList()
        for stage, resolution in enumerate(sizes):
            channels, heads, stripe = backbone.channels[stage], backbone.heads[stage], backbone.stripes[stage]
            halve = Halve(inward[stage], channels, 3 if stage else backbone.stem_kernel, norm=backbone.merge_norm)
            blocks = (
                CSWinBlock(channels, heads, stripe=stripe, resolution=resolution, mlp_ratio=backbone.mlp_ratio)
                for _ in range(backbone.depths[stage])
            )
            self.stages.append(nn.Sequential(halve, *blocks))
        self.norm = nn.LayerNorm(backbone.channels[-1])

    def forward(self, stamps: Tensor) -> Tensor:
        """Features (n, channels of the last stage) of standardised stamps (n, n_bands, size_px, size_px)."""
        stem, *steps = [step for stage in self.stages for step in cast("nn.Sequential", stage)]
        with torch.autocast(stamps.device.type, enabled=False):
            x = stem(stamps.to(self.norm.weight.dtype).permute(0, 2, 3, 1))
        for step in steps:
            x = step(x)
        return self.norm(x).mean(dim=(1, 2))


def lower_weights(backbone: CSWin) -> None:
    """Hold in bf16 what autocast would round to bf16 at every pass, in place; what comes out is the same to the bit.

    The stem and the LayerNorms keep fp32, in which autocast leaves them.
    """
    stem = cast("Halve", cast("nn.Sequential", backbone.stages[0])[0]).conv
    for part in backbone.modules():
        if isinstance(part, nn.Linear | nn.Conv2d) and part is not stem:
            part.to(torch.bfloat16)


def resolutions(backbone: Backbone, size_px: int) -> tuple[int, ...]:
    """Tokens along a side of the map in each stage; every stage begins by halving.

    Raises
    ------
    ConfigError
        If the stages cannot halve the stamp, or a stripe does not tile its stage's map: it names what would fit.
    """
    if backbone.stem_kernel % 2 == 0:
        raise ConfigError("the first convolution has no centre", seen=f"stem_kernel {backbone.stem_kernel}, even")
    sizes, size = [], size_px
    for stage, (heads, stripe) in enumerate(zip(backbone.heads, backbone.stripes, strict=True)):
        where = f"stage {stage + 1} of {len(backbone.depths)} of the network, stamps of {size_px} pixels"
        if size % 2 or not size:
            raise ConfigError(
                "the map cannot be halved",
                where=where,
                seen=size,
                needed="an even number of tokens",
                cause=_what_fits(backbone, size_px),
            )
        size //= 2
        if size % stripe:
            raise ConfigError(
                "stripes do not tile the map",
                where=where,
                seen=f"stripe width {stripe}",
                needed=f"a divisor of {size}",
                cause=_what_fits(backbone, size_px),
            )
        if heads == 1 and stripe != size:
            raise ConfigError(
                "one head cannot look in two directions",
                where=where,
                seen=f"1 head, stripe width {stripe}",
                needed=f"2 or more heads, or a stripe as wide as the map, {size}",
                cause=_what_fits(backbone, size_px),
            )
        sizes.append(size)
    return tuple(sizes)


def _what_fits(backbone: Backbone, size_px: int) -> str:
    """Settings for which stages and stamps agree: sizes near the one seen, and widths of stripes that keep it."""
    spans = [stripe << stage for stage, stripe in enumerate(backbone.stripes, start=1)]
    step = lcm(*spans)
    sizes = {size_px // step * step, size_px // step * step + step} - {0}
    whole = {span for span, heads in zip(spans, backbone.heads, strict=True) if heads == 1}  # one head: one stripe
    if whole:
        sizes = whole & {step} if len(whole) == 1 else set()
    told = ["`stamps.size_px` and `network.backbone` do not go together"]
    if sizes:
        told.append(f"with these stripes, stamps of {' or '.join(map(str, sorted(sizes)))} pixels fit")
    if not size_px % (1 << len(spans)):
        maps = ", ".join(str(size_px >> stage) for stage in range(1, len(spans) + 1))
        told.append(f"with these stamps, stripe widths that divide {maps}")
    return "; ".join(told)


def initialise(module: nn.Module, generator: torch.Generator, dense_std: float | None = 0.02) -> None:
    """Draw the weights of a module from truncated normal distributions (paper III, section 3.4).

    The generator alone decides, not the state that all threads share.

    Parameters
    ----------
    module : Module
    generator : Generator
    dense_std : float or None
        Deviation in dense layers; 0.02 is usual for transformers. Convolutions have that of torch's own choice,
        1/sqrt(3 inputs): the depthwise ones have nine inputs and would hardly be felt otherwise. None: 1/sqrt(inputs)
        in all layers.
    """
    for part in module.modules():
        if isinstance(part, nn.LayerNorm):
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Linear | nn.Conv2d):
            inputs = part.weight[0].numel()
            if dense_std is None:
                std = inputs**-0.5
            else:
                std = dense_std if isinstance(part, nn.Linear) else (3.0 * inputs) ** -0.5
            nn.init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std, generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
