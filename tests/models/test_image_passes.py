"""Passes as a GPU would make them, as far as can be seen without one; torch's device ``meta`` stands for it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from reference.tiny_networks import LAYOUT, tiny_model, tiny_parallaxes, tiny_stamps

torch = pytest.importorskip("torch")

from torch.overrides import TorchFunctionMode  # noqa: E402

from stellarscale.errors import ModelError  # noqa: E402
from stellarscale.models import image_passes  # noqa: E402
from stellarscale.models.cswin import lower_weights  # noqa: E402
from stellarscale.models.image_inputs import standard_parallax, standard_stamps  # noqa: E402
from stellarscale.models.image_passes import Passes  # noqa: E402
from stellarscale.models.image_predict import ImagePredictor, _Network  # noqa: E402
from stellarscale.models.image_store import restore_network  # noqa: E402
from stellarscale.settings.image_network import ImagePrediction  # noqa: E402

WAITS = {"tensor", "new_tensor", "item", "tolist", "cpu", "numpy", "nonzero", "equal"}


class Waits(TorchFunctionMode):
    """Takes down what would make the host wait for a GPU: numbers of Python, blocking copies, values asked for."""

    def __init__(self):
        super().__init__()
        self.seen, self.sent = [], 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), kwargs or {}
        if name in WAITS:
            self.seen.append(name)
        if name == "to" and args[0].device.type == "cpu":
            self.sent += 1
            if not kwargs.get("non_blocking"):
                self.seen.append("a copy")
        return function(*args, **kwargs)


@pytest.fixture
def gpu(monkeypatch):
    """A machine with four GPUs, as torch would tell of them."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation)


def test_a_gpu_gets_bf16_and_more_stars_a_pass(gpu, caplog):
    image_passes._say_one_of.cache_clear()
    with caplog.at_level(logging.WARNING):
        found = [Passes.of(ImagePrediction(), threads=1) for _ in range(2)][-1]
    assert (found.device, found.precision, found.batch_size) == ("cuda", "bf16", 1024)
    assert Passes.of(ImagePrediction(batch_size=7), threads=1).batch_size == 7
    assert [record.message for record in caplog.records] == [
        "a process predicts on one GPU, the first of 4: start a Dask worker for each, with CUDA_VISIBLE_DEVICES"
    ]


def test_a_cpu_gets_fewer_stars_a_pass(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert Passes.of(ImagePrediction(), threads=1).batch_size == 256


def test_a_pass_is_sent_without_waiting_for_the_one_before(monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which knows no such device
    predictor = ImagePredictor([tiny_model()], ImagePrediction(samples=8, batch_size=16, precision="fp32"), threads=1)
    passes = Passes("meta", "fp32", 1, 16)
    network = predictor._networks[0]
    regressor = network.regressor.to("meta")
    predictor.passes = passes
    predictor._networks = [
        _Network(network.model, regressor, regressor.features, [mask.to("meta") for mask in network.masks])
    ]
    batch = torch.empty((16, *LAYOUT.shape), dtype=torch.float16, device="meta")
    parallax = standard_parallax(*tiny_parallaxes(16), network.model.scaling, network.model.network.head)
    with torch.inference_mode():
        predictor._sampled(batch, [parallax])  # the first pass may send constants
        with Waits() as waits:
            made = predictor._sampled(batch, [parallax])
    assert made.shape == (16, 6)
    assert (waits.sent, waits.seen) == (1, []), "the parallaxes alone are sent, from pinned memory"


def test_a_full_memory_names_the_setting_to_change():
    def full(batch, rows):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore")

    passes = Passes("cpu", "fp32", 1, 4)
    with pytest.raises(ModelError, match=r"memory of the device is full.*4 stars a pass.*2 GiB.*prediction.batch_size"):
        passes.do(passes.batches, full, tiny_stamps(6), np.arange(6))


@pytest.mark.parametrize("merge_norm", [True, False])
def test_weights_held_in_bf16_give_what_autocast_gives_to_the_bit(merge_norm):
    model, weights = tiny_model()
    if not merge_norm:
        backbone = model.network.backbone.model_copy(update={"merge_norm": False})
        model = replace(model, network=model.network.model_copy(update={"backbone": backbone}))
        weights = {name: weight for name, weight in weights.items() if ".0.norm." not in name}
    stamps = torch.from_numpy(standard_stamps(tiny_stamps(5), model.scaling))
    plain, lowered = restore_network(model, weights), restore_network(model, weights)
    lower_weights(lowered.backbone)
    kinds = {name: weight.dtype for name, weight in lowered.named_parameters()}
    assert kinds["backbone.stages.0.0.conv.weight"] == torch.float32, "fluxes are not rounded to eight bits"
    assert kinds["backbone.stages.1.0.conv.weight"] == torch.bfloat16
    assert {kind for name, kind in kinds.items() if "norm" in name or "dense." in name} == {torch.float32}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain.features(stamps), lowered.features(stamps))
