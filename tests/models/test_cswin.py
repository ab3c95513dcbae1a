"""The CSWin backbone against its loops, its size and cost, and the shapes it refuses."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from reference.cswin_loop import block_loop, features_loop  # noqa: E402

from stellarscale.errors import ConfigError  # noqa: E402
from stellarscale.models.cswin import CSWin, CSWinBlock, StripeAttention, initialise, resolutions  # noqa: E402
from stellarscale.settings.image_network import Backbone  # noqa: E402

FULL = Backbone()
TOLERANCE = {"float32": 1e-5, "float64": 1e-10}


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Maps this small gain nothing from threads, which would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def filled(module, seed=0, dtype="float64"):
    """Weights far from their initial values, so that every one of them matters."""
    generator = torch.Generator().manual_seed(seed)
    initialise(module, generator)
    module = module.to(getattr(torch, dtype))
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator).to(weight.dtype), alpha=0.1)
    return module.eval()


def arrays(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


@st.composite
def backbones(draw):
    """Small networks and stamp sizes that fit them; the last stripe may be the whole map."""
    stages = draw(st.integers(1, 3))
    last = draw(st.sampled_from([1, 2, 3, 4]))
    sizes = [last * 2 ** (stages - 1 - stage) for stage in range(stages)]
    stripes = [draw(st.sampled_from([width for width in range(1, size + 1) if size % width == 0])) for size in sizes]
    heads = [
        draw(st.sampled_from([1, 2, 4] if stripe == size else [2, 4]))
        for stripe, size in zip(stripes, sizes, strict=True)
    ]
    backbone = Backbone(
        stem_kernel=draw(st.sampled_from([3, 5, 7])),
        merge_norm=draw(st.booleans()),
        depths=tuple(draw(st.integers(1, 2)) for _ in sizes),
        channels=tuple(count * draw(st.sampled_from([1, 3])) for count in heads),
        heads=tuple(heads),
        stripes=tuple(stripes),
        mlp_ratio=draw(st.sampled_from([0.5, 2.0])) if min(heads) > 1 else 2.0,
    )
    return backbone, sizes[0] * 2


@settings(max_examples=25, deadline=None)
@given(shape=backbones(), n=st.integers(1, 2), bands=st.integers(1, 3), dtype=st.sampled_from(["float32", "float64"]))
def test_small_networks_agree_with_the_loops(shape, n, bands, dtype):
    backbone, size_px = shape
    network = filled(CSWin(backbone, n_bands=bands, size_px=size_px), dtype=dtype)
    stamps = np.random.default_rng(1).normal(size=(n, bands, size_px, size_px)).astype(dtype)
    with torch.inference_mode():
        fast = network(torch.from_numpy(stamps)).numpy()
    slow = features_loop(stamps, arrays(network), backbone)
    assert fast.dtype == slow.dtype == np.dtype(dtype)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=TOLERANCE[dtype] * max(1.0, np.abs(slow).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("stage", range(4))
def test_a_block_of_each_stage_of_the_paper_agrees_with_the_loop(stage, dtype):
    size = resolutions(FULL, 48)[stage]
    channels, heads, stripe = FULL.channels[stage], FULL.heads[stage], FULL.stripes[stage]
    module = CSWinBlock(channels, heads, stripe=stripe, resolution=size, mlp_ratio=FULL.mlp_ratio)
    initialise(module, torch.Generator().manual_seed(2))
    module = module.to(getattr(torch, dtype))
    x = np.random.default_rng(3).normal(size=(size, size, channels)).astype(dtype)
    with torch.inference_mode():
        fast = module(torch.from_numpy(x)[None])[0].numpy()
    slow = block_loop(x, arrays(module), heads=heads, stripe=stripe)
    np.testing.assert_allclose(fast, slow, rtol=0, atol=TOLERANCE[dtype])
    assert np.abs(slow - x).max() > 0.01


def test_stages_of_the_paper():
    assert resolutions(FULL, 48) == (24, 12, 6, 3)
    with torch.device("meta"):
        network = CSWin(FULL, n_bands=6, size_px=48)
    stripes = [[group.stripe for group in stage[1].groups] for stage in network.stages]
    assert stripes == [[(1, 24), (24, 1)], [(2, 12), (12, 2)], [(3, 6), (6, 3)], [(3, 3)]]
    assert [stage[1].groups[0].heads for stage in network.stages] == [1, 2, 4, 16]


def test_nothing_passes_from_one_stripe_to_the_next():
    module = filled(StripeAttention(4, 2, (2, 6)))
    qkv = torch.randn(1, 6, 6, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    changed = qkv.clone()
    changed[:, 2:4] += 1.0
    before, after = module(qkv), module(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert torch.equal(before[:, 4:], after[:, 4:])
    assert (before[:, 2:4] != after[:, 2:4]).all()


def test_features_do_not_depend_on_the_batch():
    backbone = Backbone(depths=(1, 1), channels=(8, 16), heads=(2, 4), stripes=(2, 4))
    network = filled(CSWin(backbone, n_bands=2, size_px=16), dtype="float32")
    stamps = torch.randn(7, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        alone = torch.cat([network(stamp[None]) for stamp in stamps])
        together = network(stamps)
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_first_weights_are_truncated_normal_and_of_the_seed_alone():
    def draw(seed):
        module = CSWin(Backbone(depths=(1, 1), channels=(64, 128), heads=(2, 4), stripes=(2, 4)), n_bands=2, size_px=16)
        initialise(module, torch.Generator().manual_seed(seed))
        return module.state_dict()

    first = draw(1)
    torch.manual_seed(99)
    again, other = draw(1), draw(2)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "stages.1.1.dense1.weight"
    assert not torch.equal(first[name], other[name])
    assert float(first[name].abs().max()) <= 0.04
    assert float(first[name].std()) == pytest.approx(0.02 * 0.88, rel=0.02)  # cut at two deviations
    assert float(first["stages.0.0.norm.weight"].min()) == 1.0
    assert float(first["stages.1.1.groups.0.lepe.weight"].std()) == pytest.approx(0.88 / 27**0.5, rel=0.1)


@pytest.mark.parametrize(
    ("changes", "size_px", "words"),
    [
        ({}, 50, ["halved", "stage 2 of 4", "50 pixels", "25", "stamps of 48 or 96 pixels fit"]),
        ({}, 47, ["halved", "stage 1 of 4", "47", "stamps of 48 pixels fit"]),
        ({}, 64, ["tile", "divisor of 8", "stamps of 48 or 96 pixels fit", "stripe widths that divide 32, 16, 8, 4"]),
        ({"stripes": (1, 5, 3, 3)}, 48, ["tile", "stripe width 5", "divisor of 12", "stage 2 of 4", "of 240 pixels"]),
        ({"heads": (1, 4, 8, 16)}, 48, ["one head", "two directions", "stage 1 of 4"]),
        ({"heads": (2, 4, 8, 1)}, 96, ["one head", "stage 4 of 4", "wide as the map, 6", "stamps of 48 pixels fit"]),
        ({"stem_kernel": 4}, 48, ["stem_kernel 4"]),
    ],
)
def test_shapes_that_do_not_fit_are_refused(changes, size_px, words):
    with pytest.raises(ConfigError) as caught:
        CSWin(Backbone(**changes), n_bands=6, size_px=size_px)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("stripes", [(1, 2, 3, 3), (1, 5, 3, 3), (2, 2, 4, 1), (7, 1, 1, 1)])
def test_the_sizes_that_are_named_fit_and_none_is_between_them(stripes):
    backbone = Backbone(stripes=stripes)

    def fits(size_px: int) -> bool:
        try:
            return bool(resolutions(backbone, size_px))
        except ConfigError:
            return False

    for size_px in (size for size in range(10, 200, 9) if not fits(size)):
        with pytest.raises(ConfigError) as caught:
            resolutions(backbone, size_px)
        named = re.search(r"these stripes, stamps of (.*?) pixels", str(caught.value))
        sizes = [int(word) for word in named[1].split(" or ")]
        assert all(map(fits, sizes))
        assert max(sizes) > size_px
        assert not any(map(fits, range(min(sizes) + 1 if len(sizes) > 1 else 1, max(sizes))))


def test_narrow_networks_can_begin_with_weights_that_keep_the_size_of_their_inputs():
    module = torch.nn.Sequential(torch.nn.Linear(400, 300), torch.nn.Conv2d(6, 40, 7))
    initialise(module, torch.Generator().manual_seed(1), None)
    # A normal distribution cut at two deviations has 0.88 of its deviation.
    assert module[0].weight.std().item() == pytest.approx(0.88 * 400**-0.5, rel=0.02)
    assert module[1].weight.std().item() == pytest.approx(0.88 * 294**-0.5, rel=0.03)
    initialise(module, torch.Generator().manual_seed(1), 0.1)
    assert module[0].weight.std().item() == pytest.approx(0.088, rel=0.02)
