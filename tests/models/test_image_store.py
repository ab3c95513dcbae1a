"""Networks on disk: what comes back, and every way in which a file may be wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402

from stellarscale.errors import ModelError  # noqa: E402
from stellarscale.models.image_inputs import ImageScaling  # noqa: E402
from stellarscale.models.image_network import build_network  # noqa: E402
from stellarscale.models.image_store import (  # noqa: E402
    ImageModel,
    check_labels,
    check_stamps,
    load_image_model,
    restore_network,
    save_image_model,
)
from stellarscale.settings.image_network import Backbone, Head, ImageNetwork  # noqa: E402
from stellarscale.stamp_columns import StampFormat  # noqa: E402

NETWORK = ImageNetwork(
    backbone=Backbone(depths=(1, 1), channels=(8, 16), heads=(2, 4), stripes=(1, 4)),
    head=Head(parallax_units=8, hidden=(12, 6)),
)
STAMPS = StampFormat(("g", "r", "i"), 16, "float16", (5.0, 5.0, 4.0), 25.0, True)
MODEL = ImageModel(
    labels=("teff", "fe_h"),
    units=("K", ""),
    network=NETWORK,
    stamps=STAMPS,
    scaling=ImageScaling((5500.0, -0.2), (600.0, 0.3), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (1.0, 0.05), (0.5, 0.02)),
    n_train=1234,
    seed=5,
    config_digest="abc",
    versions={"torch": "2"},
)


def network():
    return build_network(NETWORK, n_bands=3, size_px=16, n_outputs=2, seed=1)


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "joint.safetensors"
    return path, save_image_model(path, network().state_dict(), MODEL)


def edit_metadata(path, **changes):
    """The file with other metadata, as another program could have written it."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {k: v for k, v in (header["__metadata__"] | changes).items() if v is not None}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])


def test_components_of_the_bands_come_back(tmp_path):
    scaling = dataclasses.replace(MODEL.scaling, components=((1.0, 0.5, 0.25), (-3.0, 2.0, 1.0), (0.0, -7.0, 9.5)))
    model = dataclasses.replace(MODEL, scaling=scaling, network=NETWORK.model_copy(update={"bands": "components"}))
    path = tmp_path / "joint.safetensors"
    save_image_model(path, network().state_dict(), model)
    assert load_image_model(path)[0] == model


def test_a_network_comes_back_as_it_was(stored):
    path, digest = stored
    model, weights = load_image_model(path, expect_digest=digest)
    assert model == MODEL
    first = network().eval()
    assert all(torch.equal(weights[name], tensor) for name, tensor in first.state_dict().items())
    again = restore_network(model, weights)
    assert not again.training
    stamps, parallax = torch.randn(2, 3, 16, 16), torch.randn(2, 2)
    with torch.inference_mode():
        assert torch.equal(first(stamps, parallax), again(stamps, parallax))


def test_the_same_network_has_the_same_digest_and_leaves_no_other_file(stored):
    path, digest = stored
    assert save_image_model(path, network().state_dict(), MODEL) == digest
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    changed = dataclasses.replace(MODEL, n_train=1)
    assert save_image_model(path, network().state_dict(), changed) != digest


def test_equal_weights_give_equal_bytes_in_other_processes(tmp_path):
    program = (
        "import sys; from test_image_store import MODEL, network; "
        "from stellarscale.models.image_store import save_image_model; "
        "print(save_image_model(sys.argv[1], network().state_dict(), MODEL))"
    )
    told = []
    for hash_seed in ("1", "2"):
        path = str(tmp_path / f"{hash_seed}.safetensors")
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(Path(__file__).parent)}
        command = [sys.executable, "-c", program, path]
        told.append(subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True))
    assert told[0].stdout == told[1].stdout
    first, second = ((tmp_path / f"{hash_seed}.safetensors").read_bytes() for hash_seed in ("1", "2"))
    assert first == second


def test_the_file_holds_no_code(stored):
    content = stored[0].read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    assert set(header["__metadata__"]) == {"stellarscale_model"}, "several would be written in any order"
    kinds = {entry["dtype"] for name, entry in header.items() if name != "__metadata__"}
    assert kinds == {"F32"}


@pytest.mark.parametrize("kept", [0, 4, 100, -10])
def test_a_truncated_file(stored, kept):
    path, _ = stored
    path.write_bytes(path.read_bytes()[:kept] if kept else b"")
    with pytest.raises(ModelError, match=r"damaged|empty") as caught:
        load_image_model(path)
    assert path.name in str(caught.value)


def test_a_file_of_another_kind_or_none(tmp_path):
    path = tmp_path / "teff.safetensors"
    with pytest.raises(ModelError, match=r"cannot be read.*teff\.safetensors.*No such file"):
        load_image_model(path)
    path.write_bytes(b"PK\x03\x04 an archive, not tensors " * 40)
    with pytest.raises(ModelError, match="damaged"):
        load_image_model(path)
    with pytest.raises(ModelError, match="cannot be read"):
        load_image_model(tmp_path)


@pytest.mark.parametrize("wild", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(stored, wild):
    path, _ = stored
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    first, _ = json.loads(content[8 : 8 + length])["dense.0.bias"]["data_offsets"]
    place = 8 + length + first
    path.write_bytes(content[:place] + struct.pack("<f", wild) + content[place + 4 :])
    with pytest.raises(ModelError, match=r"not finite.*joint\.safetensors.*Seen: dense\.0\.bias\.? .*altered"):
        load_image_model(path)


def test_another_digest(stored):
    path, digest = stored
    with pytest.raises(ModelError, match="not the one that was asked for") as caught:
        load_image_model(path, expect_digest="0" * 64)
    assert digest in str(caught.value)


def test_another_version(stored):
    path, _ = stored
    edit_metadata(path, stellarscale_model=MODEL.to_json().replace('"format": 1', '"format": 99'))
    with pytest.raises(ModelError, match=r"another format version.*joint\.safetensors.*Seen: 99.*Needed: 1"):
        load_image_model(path)


@pytest.mark.parametrize("text", [None, "{}", "[1]", "not JSON", '{"labels": 3}'])
def test_a_description_that_is_none(stored, text):
    path, _ = stored
    edit_metadata(path, stellarscale_model=text)
    with pytest.raises(ModelError, match="does not say what its network is"):
        load_image_model(path)


def test_tensors_of_another_program(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="does not say what its network is"):
        load_image_model(path)


def test_weights_that_do_not_fit_the_description(stored):
    path, _ = stored
    wider = NETWORK.model_copy(update={"head": Head(parallax_units=8, hidden=(20, 6))})
    edit_metadata(path, stellarscale_model=dataclasses.replace(MODEL, network=wider).to_json())
    with pytest.raises(ModelError, match="do not fit the network") as caught:
        load_image_model(path)
    assert "3 of another kind" in str(caught.value)
    assert "dense.0.weight (12, 24) float32 instead of (20, 24) float32" in str(caught.value)


def test_a_description_whose_network_cannot_be(stored):
    path, _ = stored
    small = dataclasses.replace(STAMPS, size_px=10)
    edit_metadata(path, stellarscale_model=dataclasses.replace(MODEL, stamps=small).to_json())
    with pytest.raises(ModelError, match=r"cannot look at its stamps.*halved"):
        load_image_model(path)


def test_weights_that_do_not_fit_are_not_saved(tmp_path):
    path = tmp_path / "teff.safetensors"
    weights = dict(network().state_dict())
    first, *_ = weights
    del weights[first]
    weights["more"] = torch.zeros(1)
    with pytest.raises(ModelError, match=f"1 missing: {first}; 1 unexpected: more"):
        save_image_model(path, weights, MODEL)
    halves = {name: tensor.half() for name, tensor in network().state_dict().items()}
    with pytest.raises(ModelError, match="float16 instead of"):
        save_image_model(path, halves, MODEL)
    diverged = network()
    with torch.no_grad():
        diverged.dense[0].bias[1] = float("nan")
    with pytest.raises(ModelError, match=r"not finite.*dense\.0\.bias"):
        save_image_model(path, diverged.state_dict(), MODEL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"bands": ("g", "r", "z")},
        {"bands": ("g", "r"), "softening": (5.0, 5.0)},
        {"size_px": 24},
        {"softening": (5.0, 5.0, 5.0)},
        {"zero_point": 22.5},
        {"dereddened": False},
    ],
)
def test_stamps_of_another_kind(changes):
    with pytest.raises(ModelError, match="not of the kind") as caught:
        check_stamps(MODEL, dataclasses.replace(STAMPS, **changes), where="stamps")
    for name, value in changes.items():
        assert f"{name} {value}" in str(caught.value)
        assert f"{name} {getattr(STAMPS, name)}" in str(caught.value)


def test_how_pixels_are_stored_does_not_matter():
    wider = dataclasses.replace(STAMPS, dtype="float32")
    assert wider != MODEL.stamps
    check_stamps(MODEL, wider)  # another shape would raise, as the test above shows


def test_labels_of_another_job():
    check_labels(MODEL, {"fe_h": "", "teff": "K"})
    with pytest.raises(ModelError, match=r"Seen: teff \(K\), fe_h \(dex\).*Needed: logg \(dex\)"):
        check_labels(MODEL, {"logg": ""}, where="logg.safetensors")
    with pytest.raises(ModelError, match="other labels"):
        check_labels(MODEL, {"fe_h": "dex", "teff": "K"})
