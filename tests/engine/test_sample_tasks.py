"""Cuts of single rows by partition: kept rows in a catalogue, the others in files of rejects."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal
from reference.mock_catalog import write_mock
from reference.mock_sample import CUTS, matched_spectra, selection

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored
from stellarscale.engine.sample_tasks import SampleTask, rejects_file, sample_pixel, sample_schema
from stellarscale.errors import SchemaError, StellarscaleError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.partition.sample import sample_rows
from stellarscale.simulate.dust import write_sfd_maps

CONFIG = selection(keep=("ra", "dec"))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    """Rows along the sky, some of which fail a cut."""
    rows = matched_spectra(300, 100)
    rng = np.random.default_rng(2)
    snr = np.where(rng.random(rows.num_rows) < 0.2, 5.0, rows["snr_i"].to_numpy())
    rows = rows.set_column(rows.column_names.index("snr_i"), "snr_i", pa.array(snr))
    ra, dec = rng.uniform(0, 360, rows.num_rows), rng.uniform(-30, 60, rows.num_rows)
    for name, values in (("dec", dec), ("ra", ra), ("_healpix_29", pixel_of(ra, dec))):
        rows = rows.add_column(0, name, pa.array(values))
    return rows.sort_by("_healpix_29")


@pytest.fixture(scope="module")
def source(tmp_path_factory, table) -> Path:
    root = tmp_path_factory.mktemp("matched") / "matched"
    write_mock(root, table, max_rows=100, stellarscale_id="obsid")
    return root


def run(task: SampleTask) -> tuple[pa.Table, pa.Table, list[dict]]:
    pixels = open_stored(task.source).pixels
    records = [sample_pixel(task, pixel) for pixel in pixels]
    files = [pixel_path(task.out, pixel) for pixel in pixels]
    kept = pa.concat_tables([pq.read_table(file, partitioning=None) for file in files if file.exists()])
    rejects = pa.concat_tables([pq.read_table(rejects_file(task.rejects, pixel)) for pixel in pixels])
    return kept, rejects, records


def test_partitions_are_cut_as_the_whole_table_is(source, table, tmp_path):
    kept, rejects, records = run(SampleTask(source, tmp_path / "rows", tmp_path / "rejects", CONFIG))
    whole, lost = sample_rows(table, CONFIG)
    assert len(records) > 3
    assert_frame_equal(kept.to_pandas(), whole.select(kept.column_names).to_pandas())
    assert rejects.to_pylist() == lost.to_pylist()
    assert sum(record["rows_in"] for record in records) == table.num_rows
    for record in records:
        assert record["rows_in"] == record["rows_out"] + sum(record["rejected"].values())
    assert {reason for record in records for reason in record["rejected"]} == {"S/N"}


def test_the_schema_is_known_before_and_the_same_in_every_partition(source, tmp_path):
    schema = sample_schema(open_stored(source).schema, CONFIG)
    kept, _, _ = run(SampleTask(source, tmp_path / "rows", tmp_path / "rejects", CONFIG))
    assert kept.schema.equals(schema)
    assert schema.names[0] == "_healpix_29"
    assert {"ra", "dec", "branch", "bp_rp_0", "m_g_0"} <= set(schema.names)


def test_a_partition_that_loses_every_row_is_recorded(source, table, tmp_path):
    strict = selection(keep=("ra", "dec"), cuts={**CUTS, "min_snr": 1e6})
    task = SampleTask(source, tmp_path / "rows", tmp_path / "rejects", strict)
    pixel = open_stored(source).pixels[0]
    record = sample_pixel(task, pixel)
    assert record["rows_out"] == 0
    assert record["rejected"] == {"S/N": record["rows_in"]}
    assert pq.read_table(rejects_file(task.rejects, pixel)).num_rows == record["rows_in"]


def test_reddening_of_the_maps_is_that_of_the_place(source, table, tmp_path):
    write_sfd_maps(tmp_path / "dust")
    maps = selection(keep=("ra", "dec"), cuts={**CUTS, "reddening": {"sfd98": str(tmp_path / "dust")}})
    kept, _, _ = run(SampleTask(source, tmp_path / "rows", tmp_path / "rejects", maps))
    plain, _, _ = run(SampleTask(source, tmp_path / "rows2", tmp_path / "rejects2", CONFIG))
    assert kept.num_rows == plain.num_rows
    assert kept.schema.equals(sample_schema(open_stored(source).schema, maps))
    assert not np.allclose(kept["bp_rp_0"], plain["bp_rp_0"])
    assert np.isfinite(kept["bp_rp_0"].to_numpy()).all()


def test_missing_maps_are_named(source, tmp_path):
    maps = selection(keep=("ra", "dec"), cuts={**CUTS, "reddening": {"sfd98": str(tmp_path / "nowhere")}})
    task = SampleTask(source, tmp_path / "rows", tmp_path / "rejects", maps)
    with pytest.raises(StellarscaleError, match="nowhere"):
        sample_pixel(task, open_stored(source).pixels[0])


def test_a_missing_column_is_named_before_any_work(source):
    schema = open_stored(source).schema
    short = pa.schema([field for field in schema if field.name != "gaia_ruwe"])
    with pytest.raises(SchemaError, match="gaia_ruwe"):
        sample_schema(short, CONFIG)


def test_tasks_can_travel(source, tmp_path):
    task = SampleTask(source, tmp_path / "rows", tmp_path / "rejects", CONFIG)
    assert pickle.loads(pickle.dumps(task)) == task
    assert replace(task, out=tmp_path) != task
