"""The whole network on images: size, cost, head with fixed masks, independence of seed and batch."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from reference.cswin_plain import plain_features, plain_samples  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from stellarscale.errors import ConfigError, ModelError  # noqa: E402
from stellarscale.models import image_network  # noqa: E402
from stellarscale.models.cswin import resolutions  # noqa: E402
from stellarscale.models.image_network import build_network, dropout_masks, empty_network  # noqa: E402
from stellarscale.settings.image_network import Backbone, Head, ImageNetwork  # noqa: E402

PAPER = ImageNetwork()
TINY = ImageNetwork(
    backbone=Backbone(depths=(1, 1), channels=(8, 16), heads=(2, 4), stripes=(1, 4)),
    head=Head(parallax_units=8, hidden=(12, 6)),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Maps this small gain nothing from threads, which would wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny(*, parallax=True, n_outputs=1, seed=1):
    network = TINY.model_copy(update={"parallax": parallax})
    result = build_network(network, n_bands=3, size_px=16, n_outputs=n_outputs, seed=seed).eval()
    with torch.no_grad():  # as after a training: outputs of the order of one
        for name, weight in result.named_parameters():
            weight.mul_(1.0 if weight.ndim != 2 else 5.0 if "backbone" in name else 20.0)
    return result


def inputs(n, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    stamps = torch.randn(n, 3, 16, 16, generator=generator).to(dtype)
    return stamps, torch.randn(n, 2, generator=generator).to(dtype)


def attention_flops(backbone, size_px):
    """Two products of queries, keys and values of each stripe."""
    total = 0
    for size, depth, channels, stripe in zip(
        resolutions(backbone, size_px), backbone.depths, backbone.channels, backbone.stripes, strict=True
    ):
        total += depth * 2 * 2 * size**2 * (size * stripe) * channels
    return total


def test_parameters_and_operations_of_the_paper():
    network = empty_network(PAPER, n_bands=6, size_px=48, n_outputs=1)
    assert sum(weight.numel() for weight in network.parameters()) == pytest.approx(34.3e6, rel=0.01)
    network.to_empty(device="cpu")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 6, 48, 48), torch.zeros(1, 2))
    counted = {str(name): number for name, number in counter.get_flop_counts()["Global"].items()}
    products = sum(number for name, number in counted.items() if "attention" not in name and "bmm" not in name)
    attention = attention_flops(PAPER.backbone, 48)
    assert products == pytest.approx(2.36e9, rel=0.01)  # as counters of layers have it, the paper's presumably
    assert products + attention == pytest.approx(2.395e9, rel=0.001)
    assert sum(counted.values()) - products in (0, attention)  # torch counts attention on some devices only


def test_inputs_of_the_head():
    assert empty_network(PAPER, n_bands=6, size_px=48, n_outputs=1).widths == (640, 256, 64)
    alone = PAPER.model_copy(update={"parallax": False})
    assert empty_network(alone, n_bands=6, size_px=48, n_outputs=3).widths == (512, 256, 64)


def test_a_forward_pass_of_the_paper_equals_the_plain_network():
    network = build_network(PAPER, n_bands=6, size_px=48, n_outputs=1, seed=3).eval()
    stamps = torch.randn(2, 6, 48, 48, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        fast = network.features(stamps)
        plain = plain_features(stamps, network.state_dict(), PAPER)
        result = network(stamps, torch.zeros(2, 2))
    torch.testing.assert_close(fast, plain, rtol=0, atol=2e-5)
    assert result.shape == (2, 1)
    assert float(fast.std()) > 0.1


@pytest.mark.parametrize("parallax", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_all_samples_at_once_equal_one_pass_each(parallax, n_outputs, monkeypatch):
    network = tiny(parallax=parallax, n_outputs=n_outputs).double()
    stamps, distance = inputs(5, dtype=torch.float64)
    masks = dropout_masks(7, 20, network.widths, 0.2)
    with torch.inference_mode():
        features = network.features(stamps)
        loop = torch.stack([network.head(features, distance, sample) for sample in zip(*masks, strict=True)])
        whole = network.sample_head(features, distance, masks)
        monkeypatch.setattr(image_network, "_SAMPLED_BYTES", 12 * 24 * 8 * 3)
        chunked = network.sample_head(features, distance, masks)
    assert whole.shape == (20, 5, n_outputs)
    torch.testing.assert_close(whole, loop, rtol=0, atol=1e-12)
    torch.testing.assert_close(chunked, loop, rtol=0, atol=1e-12)
    assert float(loop.std(dim=0).min()) > 1e-3


def test_samples_equal_those_of_the_plain_network():
    network = tiny().double()
    stamps, distance = inputs(4, dtype=torch.float64)
    masks = dropout_masks(1, 6, network.widths, 0.2)
    with torch.inference_mode():
        ours = network.sample_head(network.features(stamps), distance, masks)
        plain = plain_samples(stamps, distance, network.state_dict(), TINY, masks)
    torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


def test_a_star_does_not_depend_on_the_others_of_its_batch():
    network = tiny(n_outputs=2)
    stamps, distance = inputs(9)
    masks = dropout_masks(3, 64, network.widths, 0.2)

    def predict(rows):
        samples = network.sample_head(network.features(stamps[rows]), distance[rows], masks)
        return torch.stack([samples.mean(dim=0), samples.std(dim=0)])

    with torch.inference_mode():
        together = predict(torch.arange(9))
        for rows in ([0], [4, 2], [8, 7, 6, 5]):
            torch.testing.assert_close(predict(rows), together[:, rows], rtol=0, atol=2e-6)
    assert float(together[1].min()) > 1e-3


def test_masks():
    masks = dropout_masks(5, 400, (640, 256, 64), 0.2)
    assert [mask.shape for mask in masks] == [(400, 640), (400, 256), (400, 64)]
    assert all(mask.dtype == bool for mask in masks)
    assert np.mean(masks[0]) == pytest.approx(0.8, abs=0.005)
    few, again, other = (dropout_masks(seed, 3, (640, 256, 64), 0.2) for seed in (5, 5, 6))
    for mask, first, same, another in zip(masks, few, again, other, strict=True):
        assert np.array_equal(mask[:3], first)
        assert np.array_equal(first, same)
        assert not np.array_equal(first, another)
    assert all(mask.all() for mask in dropout_masks(1, 2, (8, 4), 0.0))


def test_dropout_only_while_training_and_at_all_three_layers():
    network = tiny().train()
    stamps, distance = inputs(2)
    with torch.no_grad():
        assert not torch.equal(network(stamps, distance), network(stamps, distance))
        network.eval()
        assert torch.equal(network(stamps, distance), network(stamps, distance))
        features, full = network.features(stamps), [np.ones(width, bool) for width in network.widths]
        for layer, width in enumerate(network.widths):
            none = [np.zeros(width, bool) if layer == place else mask for place, mask in enumerate(full)]
            changed = network.head(features, distance, none)
            assert torch.equal(changed[0], changed[1]), f"nothing of the star passes dense layer {layer}"


def test_each_star_may_have_masks_of_its_own():
    network = tiny()
    stamps, distance = inputs(5)
    masks = dropout_masks(4, 5, network.widths, 0.2)
    with torch.inference_mode():
        features = network.features(stamps)
        together = network.head(features, distance, masks)
        alone = [network.head(features[[n]], distance[[n]], [mask[n] for mask in masks]) for n in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=0, atol=1e-6)


def test_first_weights_come_from_the_seed():
    first = build_network(TINY, n_bands=3, size_px=16, n_outputs=1, seed=1).state_dict()
    state = torch.random.get_rng_state()
    again = build_network(TINY, n_bands=3, size_px=16, n_outputs=1, seed=1).state_dict()
    other = build_network(TINY, n_bands=3, size_px=16, n_outputs=1, seed=2).state_dict()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["dense.0.weight"], other["dense.0.weight"])
    assert all(torch.isfinite(weight).all() for weight in first.values())


def test_every_weight_learns():
    network = tiny(n_outputs=3).train()
    stamps, distance = inputs(6)
    network(stamps, distance).square().mean().backward()
    silent = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert silent == []


def test_blocks_in_bf16_change_little_and_sum_in_fp32():
    network = tiny()
    stamps, distance = inputs(40)
    sums, inner = [], []
    for stage in network.backbone.stages:
        for step in stage:
            step.register_forward_hook(lambda module, given, made: sums.append(made.dtype))
    network.backbone.stages[0][1].qkv.register_forward_hook(lambda module, given, made: inner.append(made.dtype))
    with torch.inference_mode():
        exact = network(stamps, distance)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = network.features(stamps)
        rough = network.head(features, distance)
    assert set(sums) == {torch.float32}
    assert inner == [torch.float32, torch.bfloat16]
    assert features.dtype == rough.dtype == torch.float32
    assert 0 < float((rough - exact).std()) < 0.02 * float(exact.std())


def test_a_network_without_parallax_ignores_it_and_one_with_needs_it():
    stamps, distance = inputs(2)
    with torch.inference_mode():
        alone = tiny(parallax=False)
        assert torch.equal(alone(stamps, distance), alone(stamps, None))
        with pytest.raises(ModelError, match="needs parallaxes"):
            tiny()(stamps, None)


def test_a_size_that_does_not_fit_is_refused_before_any_weight_is_drawn():
    with pytest.raises(ConfigError, match="halved"):
        build_network(PAPER, n_bands=6, size_px=50, n_outputs=1, seed=0)
