"""Checkpoints of a training: what is read is what was written, and anything else is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stellarscale.errors import ModelError
from stellarscale.models.image_checkpoint import (
    Checkpoint,
    adam_state,
    load_checkpoint,
    restore_adam,
    save_checkpoint,
)


def dense() -> tuple[torch.nn.Module, torch.optim.Adam, list[str]]:
    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).reshape(2, 3))
        layer.bias.zero_()
    adam = torch.optim.Adam(layer.parameters(), lr=0.1, betas=(0.99, 0.999), fused=True)
    return layer, adam, [name for name, _ in layer.named_parameters()]


def step(layer: torch.nn.Module, adam: torch.optim.Adam, number: int) -> None:
    adam.zero_grad()
    x = torch.from_numpy(np.random.default_rng(number).normal(size=(4, 3)).astype(np.float32))
    layer(x).square().sum().backward()
    adam.step()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "teff.checkpoint.safetensors"


def test_adam_goes_on_as_if_nothing_had_happened(path):
    layer, adam, names = dense()
    for number in range(3):
        step(layer, adam, number)
    state = Checkpoint("abc", [{"epoch": 1, "loss": 0.5}], 2.5, layer.state_dict(), adam_state(adam, names))
    save_checkpoint(path, state)
    step(layer, adam, 3)

    other, adam_again, _ = dense()
    known = load_checkpoint(path, digest="abc")
    assert known is not None
    assert known.curve == [{"epoch": 1, "loss": 0.5}]
    assert known.seconds == 2.5
    assert known.best == {}
    other.load_state_dict(dict(known.weights))
    restore_adam(adam_again, names, known.adam)
    step(other, adam_again, 3)
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(other.bias, layer.bias)


def test_there_may_be_none(path):
    assert load_checkpoint(path, digest="abc") is None


def test_another_training_is_refused(path):
    layer, adam, names = dense()
    save_checkpoint(path, Checkpoint("abc", [], 0.0, layer.state_dict(), adam_state(adam, names)))
    assert load_checkpoint(path, digest="abc").adam == {}
    with pytest.raises(ModelError, match=r"another training.*Needed: digest def"):
        load_checkpoint(path, digest="def")


def test_a_damaged_file_is_refused(path):
    layer, _, _ = dense()
    save_checkpoint(path, Checkpoint("abc", [], 0.0, layer.state_dict(), {}))
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"{}"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=r"cannot be used.*teff.checkpoint.*cut short"):
            load_checkpoint(path, digest="abc")


def test_another_version_is_refused(path):
    layer, _, _ = dense()
    save_checkpoint(path, Checkpoint("abc", [], 0.0, layer.state_dict(), {}))
    state = '{"digest": "abc", "curve": [], "seconds": 0}'
    save_file(load_file(path), path, metadata={"stellarscale_checkpoint": "99", "stellarscale_training": state})
    with pytest.raises(ModelError, match="version 99, not 1"):
        load_checkpoint(path, digest="abc")
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match="cannot be used"):
        load_checkpoint(path, digest="abc")


def test_a_failed_write_leaves_the_one_before(path, monkeypatch):
    layer, _, _ = dense()
    save_checkpoint(path, Checkpoint("abc", [], 1.0, layer.state_dict(), {}))
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("no space")))
    with pytest.raises(OSError, match="no space"):
        save_checkpoint(path, Checkpoint("abc", [], 2.0, layer.state_dict(), {}))
    assert load_checkpoint(path, digest="abc").seconds == 1.0
    assert [each.name for each in path.parent.iterdir()] == [path.name]
