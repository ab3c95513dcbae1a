"""Labelled stars with stamps as arrays: which are kept, their split, and that a damaged set is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.image_stars import LAYOUT, labelled_table, write_labelled

from stellarscale.catalog.reader import open_stored
from stellarscale.config import Label
from stellarscale.engine.image_training_rows import TrainingSetTask, check_training_set
from stellarscale.engine.image_training_set import build_training_set, read_training_set
from stellarscale.errors import CatalogError, InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.stamp_columns import stamps_of

N = 400
LABELS = {
    "teff": Label(column="galah_teff", error="galah_teff_err", max_error=55.0, offset=10.0, unit="K"),
    "logg": Label(column="galah_logg", range=(2.1, 3.9), unit="dex"),
}


def changed(table: pa.Table, name: str, values: np.ndarray, null: np.ndarray | None = None) -> pa.Table:
    index = table.schema.get_field_index(name)
    return table.set_column(index, table.schema.field(index), pa.array(values, mask=null))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Ten stars with an incomplete band, ten without parallax, one of the rest twice."""
    rows = labelled_table(N)
    flags = np.zeros(N, np.int32)
    flags[:10] = int(Flag.INCOMPLETE_BANDS | Flag.MISSING_PIXELS)
    flags[50] = int(Flag.MISSING_PIXELS)
    rows = changed(rows, "quality_flags", flags)
    parallax = rows["gaia_parallax"].to_numpy()
    rows = changed(rows, "gaia_parallax", parallax, null=(np.arange(N) >= 10) & (np.arange(N) < 20))
    ids = rows["object_id"].to_numpy().copy()
    ids[61] = ids[60]
    return changed(rows, "object_id", ids)


@pytest.fixture
def task(table, tmp_path) -> TrainingSetTask:
    return TrainingSetTask(
        source=write_labelled(tmp_path / "labelled", table),
        out=tmp_path / "training",
        labels=LABELS,
        parallax=("gaia_parallax", "gaia_parallax_error"),
        needs_parallax=True,
        object_id="object_id",
        keep=("g_mag",),
        split=(0.6, 0.2, 0.2),
        seed=4,
    )


def test_useful_stars_are_written_with_their_stamps(task, table):
    record = build_training_set(task)
    rows = pq.read_table(task.out / "table.parquet", partitioning=None)
    stamps = np.load(task.out / "stamps.npy", mmap_mode="r", allow_pickle=False)
    assert len(open_stored(task.source).pixels) > 2
    teff, logg = table["galah_teff"].to_numpy(), table["galah_logg"].to_numpy().astype(float)
    has_teff = table["galah_teff_err"].to_numpy() < 55
    has_logg = (logg >= 2.1) & (logg <= 3.9)
    kept = (has_teff | has_logg) & (np.arange(N) >= 20) & (np.arange(N) != 61)
    assert record["rows_in"] == N
    without = ~(has_teff | has_logg) & (np.arange(N) >= 10)
    assert record["rejected"] == {
        "incomplete bands": 10,
        "no label": int(without.sum()),
        "no parallax": 10 - int(without[10:20].sum()),
        "another row of the star": 1,
    }
    assert record["rows_out"] == rows.num_rows == len(stamps) == kept.sum()
    np.testing.assert_array_equal(rows["object_id"].to_numpy(), table["object_id"].to_numpy()[kept])
    np.testing.assert_array_equal(stamps, stamps_of(table)[kept])
    assert stamps.dtype == np.float16
    found = rows["teff"].to_numpy(zero_copy_only=False)
    np.testing.assert_allclose(found, np.where(has_teff, teff + 10.0, np.nan)[kept], rtol=1e-7)
    assert rows["logg"].null_count == (~has_logg)[kept].sum() > 0
    assert rows.schema.field("teff").metadata[b"unit"] == b"K"
    np.testing.assert_array_equal(rows["g_mag"].to_numpy(), table["g_mag"].to_numpy()[kept])
    assert rows["quality_flags"].to_numpy().max() == int(Flag.MISSING_PIXELS)
    parts = np.bincount(rows["split"].to_numpy(), minlength=3)
    assert [record[f"n_{part}"] for part in ("train", "validation", "test")] == parts.tolist()
    assert record["stamps"]["bands"] == LAYOUT.bands


def test_the_split_of_a_star_is_its_own(task, table):
    build_training_set(task)
    rows = pq.read_table(task.out / "table.parquet", partitioning=None)
    half = table.take(pa.array(np.arange(0, N, 2)))
    fewer = replace(task, source=write_labelled(task.out.parent / "half", half), out=task.out.parent / "other")
    build_training_set(fewer)
    known = dict(zip(rows["object_id"].to_pylist(), rows["split"].to_pylist(), strict=True))
    again = pq.read_table(fewer.out / "table.parquet", partitioning=None)
    assert all(
        known[star] == part
        for star, part in zip(again["object_id"].to_pylist(), again["split"].to_pylist(), strict=True)
    )
    shares = np.bincount(rows["split"].to_numpy()) / rows.num_rows
    np.testing.assert_allclose(shares, [0.6, 0.2, 0.2], atol=0.08)


def test_the_same_stars_give_the_same_digest(task):
    first = build_training_set(task)["digest"]
    assert build_training_set(replace(task, out=task.out.parent / "again"))["digest"] == first
    assert build_training_set(replace(task, out=task.out.parent / "more", keep=()))["digest"] == first
    assert build_training_set(replace(task, out=task.out.parent / "seed", seed=5))["digest"] != first
    warmer = {**LABELS, "teff": LABELS["teff"].model_copy(update={"offset": 11.0})}
    assert build_training_set(replace(task, out=task.out.parent / "label", labels=warmer))["digest"] != first


def test_without_parallax_its_stars_are_kept(task):
    record = build_training_set(replace(task, needs_parallax=False))
    assert "no parallax" not in record["rejected"]
    stars = read_training_set(task.out, ("logg",))
    assert np.isnan(stars.parallax[:, 0]).sum() > 0
    assert stars.labels.shape == (record["rows_out"], 1)
    assert stars.open_stamps().shape == (record["rows_out"], *LAYOUT.shape)


def test_too_few_stars_are_an_error(task):
    cold = {"teff": LABELS["teff"].model_copy(update={"range": (5600.0, 5700.0)}), "logg": LABELS["logg"]}
    with pytest.raises(InputError, match=r"too few stars.*label teff.*incomplete bands.*Needed: 50"):
        build_training_set(replace(task, labels=cold))
    assert not (task.out / "stamps.npy").exists()


def test_wrong_columns_are_told(task):
    with pytest.raises(SchemaError, match=r"lack columns.*Needed: nothing"):
        check_training_set(replace(task, keep=("nothing",)))
    with pytest.raises(SchemaError, match="must be integers"):
        check_training_set(replace(task, object_id="ra"))
    with pytest.raises(SchemaError, match="name of another one"):
        check_training_set(replace(task, labels={"g_mag": LABELS["teff"]}))


def test_a_damaged_set_is_refused(task):
    build_training_set(task)
    with pytest.raises(CatalogError, match=r"columns missing: .'fe_h'"):
        read_training_set(task.out, ("fe_h",))
    np.save(task.out / "stamps.npy", np.zeros((3, *LAYOUT.shape), np.float16))
    with pytest.raises(CatalogError, match="cannot be used"):
        read_training_set(task.out, ("teff",))
    (task.out / "stamps.npy").write_bytes(b"\x93NUMPY")
    with pytest.raises(CatalogError, match="cannot be used"):
        read_training_set(task.out, ("teff",))


def test_a_missing_stamp_must_be_flagged(task, table):
    index = table.schema.get_field_index("stamp")
    holes = table["stamp"].to_pylist()
    holes[100] = None
    other = table.set_column(index, table.schema.field(index), pa.array(holes, table.schema.field(index).type))
    with pytest.raises(SchemaError, match=r"without a stamp are not flagged.*INCOMPLETE_BANDS"):
        build_training_set(replace(task, source=write_labelled(task.out.parent / "holes", other)))
