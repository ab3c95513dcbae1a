"""Files of forests: stored to the bit, mapped, refused when damaged or another's."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import zipfile

import numpy as np
import pytest
from reference.forest_stars import NAMES, SMALL, make_stars

from stellarscale.errors import ModelError
from stellarscale.kernels.forest import predict
from stellarscale.models import store
from stellarscale.models.forest import check_features, describe, train


@pytest.fixture(scope="module")
def trained():
    return train(*make_stars(), feature_names=NAMES, config=SMALL)


@pytest.fixture(scope="module")
def provenance(trained):
    return describe(trained, label="teff", unit="K", class_names=["dwarf"], config_digest="abc")


@pytest.fixture
def saved(tmp_path, trained, provenance):
    path = tmp_path / "teff_dwarf.npz"
    return path, store.save(path, trained.packed, provenance)


def test_features_of_a_stored_forest(saved):
    with pytest.raises(ModelError, match=r"missing \['bp_rp_0'\]"):
        check_features(store.load(saved[0]), NAMES[1:])


def test_round_trip(saved, trained, provenance):
    path, digest = saved
    opened = store.load(path, digest)
    x, _ = make_stars(seed=5)
    for before, after in zip(predict(trained.packed, x), predict(opened.packed, x), strict=True):
        np.testing.assert_array_equal(before, after)
    assert opened.provenance == provenance
    assert opened.feature_names == NAMES
    assert opened.digest == digest == store.digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    record = opened.provenance
    assert (record.label, record.unit, record.class_names, record.config_digest) == (
        "teff",
        "K",
        ("dwarf",),
        "abc",
    )
    assert record.n_train == 600
    assert record.hyperparameters["max_depth"] == 9
    assert set(record.versions) >= {"scikit-learn", "numpy"}


def test_arrays_are_mapped_aligned_and_read_only(saved):
    packed = store.load(saved[0]).packed
    for name in ("nodes", "tree_start", "leaf_values", "leaf_start", "depth"):
        array = getattr(packed, name)
        owner = array
        while isinstance(owner.base, np.ndarray):
            owner = owner.base
        assert isinstance(owner, np.memmap), name
        assert array.ctypes.data % 64 == 0, name
        assert not array.flags.writeable, name


def test_numpy_reads_the_file_and_nothing_in_it_is_pickled(saved, trained):
    with np.load(saved[0], allow_pickle=False) as members:
        np.testing.assert_array_equal(members["nodes"], trained.packed.nodes)
        assert members["provenance"].dtype == np.uint8
        assert json.loads(bytes(members["provenance"]))["format_version"] == store.FORMAT_VERSION
    with zipfile.ZipFile(saved[0]) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_same_content_same_bytes(saved, tmp_path, trained, provenance):
    again = tmp_path / "other.npz"
    assert store.save(again, trained.packed, provenance) == saved[1]
    assert again.read_bytes() == saved[0].read_bytes()
    with zipfile.ZipFile(again) as archive:
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    other = store.save(again, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert other != saved[1]


def test_oob_values_that_are_not_known_survive(tmp_path, trained, provenance):
    path = tmp_path / "m.npz"
    store.save(path, trained.packed, dataclasses.replace(provenance, oob_score=float("nan"), sigma=float("nan")))
    assert np.isnan(store.load(path).provenance.oob_score)


def test_process_opens_a_digest_once(saved):
    path, digest = saved
    assert store.load(path, digest) is store.load(str(path), digest)


def test_load_without_digest_sees_a_new_file(saved, trained, provenance):
    path, _ = saved
    assert store.load(path).provenance.label == "teff"
    store.save(path, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert store.load(path).provenance.label == "logg"


def test_wrong_digest(saved):
    path, digest = saved
    with pytest.raises(
        ModelError, match=rf"not the one.*Where: {path}.*Seen: sha256 {digest}.*Needed: sha256 00.*cause"
    ):
        store.load(path, "00")


def test_missing_file(tmp_path):
    with pytest.raises(ModelError, match=r"cannot be read.*none\.npz"):
        store.load(tmp_path / "none.npz")


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file(saved, kept):
    path, digest = saved
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(ModelError, match=r"damaged.*Where: .*teff_dwarf.npz.*Seen: .*Needed: .*cut short"):
        store.load(path)
    with pytest.raises(ModelError, match="not the one that was asked for"):
        store.load(path, digest)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_flipped_bit(saved, place):
    path, _ = saved
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 16
    path.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        store.load(path)


def rewrite(path, **changes):
    """Write the file again, well-formed, with some members changed (None: left out)."""
    with np.load(path) as members:
        arrays = {name: members[name] for name in members.files} | changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


def tampered_record(path, **changes):
    with np.load(path) as members:
        record = json.loads(bytes(members["provenance"])) | changes
    rewrite(path, provenance=np.frombuffer(json.dumps(record).encode(), np.uint8))


def test_another_format_version(saved):
    tampered_record(saved[0], format_version=99, new_field=1)
    with pytest.raises(ModelError, match=r"another format version.*Seen: 99.*Needed: 3.*train again"):
        store.load(saved[0])


def test_plain_savez_file_loads_too(saved, trained):
    rewrite(saved[0])
    x, _ = make_stars(20)
    np.testing.assert_array_equal(predict(store.load(saved[0]).packed, x)[0], predict(trained.packed, x)[0])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"leaf_values": None}, "damaged.*leaf_values"),
        ({"provenance": None}, "damaged"),
        ({"provenance": np.frombuffer(b"not json", np.uint8)}, "damaged"),
        ({"provenance": np.frombuffer(b"[1, 2]", np.uint8)}, "damaged"),
        ({"depth": np.array([object()])}, "damaged"),
        ({"nodes": np.zeros(4, np.uint64)}, "do not cover"),
    ],
)
def test_wrong_members(saved, changes, message):
    rewrite(saved[0], **changes)
    with pytest.raises(ModelError, match=message):
        store.load(saved[0])


def test_fewer_names_than_the_nodes_use(saved):
    tampered_record(saved[0], feature_names=list(NAMES[:2]))
    with pytest.raises(ModelError, match="outside its tree"):
        store.load(saved[0])


def test_compressed_file_is_refused(saved):
    with np.load(saved[0]) as members:
        arrays = {name: members[name] for name in members.files}
    np.savez_compressed(saved[0], **arrays)
    with pytest.raises(ModelError, match=r"damaged.*compressed"):
        store.load(saved[0])


def test_names_must_fit_when_saving(tmp_path, trained, provenance):
    with pytest.raises(ModelError, match=r"Feature names do not fit.*Seen: 2.*Needed: 4"):
        store.save(tmp_path / "m.npz", trained.packed, dataclasses.replace(provenance, feature_names=NAMES[:2]))
    assert not list(tmp_path.iterdir())


def test_interrupted_write_leaves_the_old_file(saved, trained, provenance, monkeypatch):
    path, digest = saved

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        store.save(path, trained.packed, dataclasses.replace(provenance, label="logg"))
    assert store.digest(path) == digest
    assert [p.name for p in path.parent.iterdir()] == [path.name]
