"""Rows of a catalogue of spectra: read group by group, by place and by id."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.fake_spectra import COUNT, GRID, GROUP
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.gather import gather_rows
from stellarscale.catalog.reader import read_batches_of, read_columns, read_pixel
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.catalog.wide import row_bytes
from stellarscale.errors import CatalogError, SchemaError
from stellarscale.spectra_columns import grid_of, spectra_of


def test_row_groups_come_one_by_one_along_the_sky(spectra_cat):
    for pixel in spectra_cat.pixels:
        tables = list(read_batches_of(spectra_cat, pixel))
        assert len(tables) == -(-spectra_cat.rows_of(pixel) // GROUP)
        assert pa.concat_tables(tables).equals(read_pixel(spectra_cat, pixel))
        narrow = list(read_batches_of(spectra_cat, pixel, columns=["snr_i"]))
        assert narrow[0].column_names == ["_healpix_29", "snr_i"]


def test_row_groups_of_a_part_of_the_sky(spectra_cat):
    ranges = parse_subset("cone:200,10,30").ranges()
    for pixel in spectra_cat.pixels:
        tables = list(read_batches_of(spectra_cat, pixel, ranges=ranges))
        whole = read_pixel(spectra_cat, pixel, ranges=ranges)
        assert pa.concat_tables([whole.slice(0, 0), *tables]).equals(whole)
        assert all(table.num_rows for table in tables)


def test_a_file_that_is_not_sorted_is_read_as_a_whole(spectra_cat, spectra_copy):
    pixel = spectra_copy.pixels[0]
    path = next(spectra_copy.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.take(np.random.default_rng(1).permutation(table.num_rows)), path, row_group_size=13)
    read = pa.concat_tables(list(read_batches_of(spectra_copy, pixel)))
    assert (np.diff(read["_healpix_29"].to_numpy()) >= 0).all()
    assert read.sort_by("spectrum_id").equals(read_pixel(spectra_cat, pixel).sort_by("spectrum_id"))


def test_a_damaged_file_is_named(spectra_copy):
    pixel = spectra_copy.pixels[0]
    path = next(spectra_copy.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + b"\xff" * 60 + raw[64:])
    with pytest.raises(CatalogError, match="damaged"):
        list(read_batches_of(spectra_copy, pixel))
    assert not verify(spectra_copy.root).ok


def test_rows_are_found_by_id(spectra_cat):
    wanted = [f"spec-0-{number:05d}" for number in (7, 8, 9, 208, 209, 777)]
    rows = gather_rows(spectra_cat, "spectrum_id", [*wanted, "absent", None], ["flux", "snr_i"])
    assert rows.column_names == ["_healpix_29", "spectrum_id", "flux", "snr_i"]
    assert sorted(rows["spectrum_id"].to_pylist()) == wanted
    assert (np.diff(rows["_healpix_29"].to_numpy()) >= 0).all()
    assert grid_of(rows.schema) == GRID
    everything = read_columns(spectra_cat, ["spectrum_id"])["spectrum_id"].to_pylist()
    assert gather_rows(spectra_cat, "spectrum_id", everything, ["flux"]).num_rows == COUNT
    assert gather_rows(spectra_cat, "spectrum_id", [], ["flux"]).num_rows == 0


def test_rows_of_one_place_in_two_row_groups_come_once(tmp_path):
    table = mock_table(200, patch=(10.0, 5.0, 1.0), seed=4)
    table = table.take(pa.array(np.repeat(np.arange(200), 3)))
    stored, _ = write_mock(tmp_path / "c", table, max_rows=1000, row_group_rows=7)
    ids = table["source_id"].to_pylist()
    for some in (ids, ids[:30], ids[5:6], ids[::17]):
        rows = gather_rows(stored, "source_id", sorted(set(some)), ["ra"])
        assert rows.num_rows == 3 * len(set(some))


def test_only_row_groups_that_hold_an_id_are_decoded(spectra_cat, monkeypatch):
    read: list[int] = []
    original = pq.ParquetFile.read_row_groups

    def counted(self, groups, columns=None, **kwargs):
        if "flux" in columns:
            read.extend(groups)
        return original(self, groups, columns=columns, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    gather_rows(spectra_cat, "spectrum_id", ["spec-0-00345"], ["flux"])
    assert len(read) == 1


def test_values_of_another_kind_are_refused(spectra_cat):
    with pytest.raises(SchemaError, match="snr_i"):
        gather_rows(spectra_cat, "snr_i", ["bright"], [])
    with pytest.raises(SchemaError, match="star_id"):
        gather_rows(spectra_cat, "star_id", [1], [])


def test_row_groups_of_spectra_are_read_in_parts(spectra_cat, monkeypatch):
    whole = {pixel: read_pixel(spectra_cat, pixel) for pixel in spectra_cat.pixels}
    monkeypatch.setattr("stellarscale.catalog.wide._READ_BYTES", 5 * row_bytes(spectra_cat.schema))
    for pixel in spectra_cat.pixels:
        tables = list(read_batches_of(spectra_cat, pixel))
        assert max(table.num_rows for table in tables) <= 5
        assert pa.concat_tables(tables).equals(whole[pixel])


@pytest.mark.parametrize("chunks", [1, 2])
def test_spectra_of_one_chunk_are_not_copied(spectra_cat, chunks):
    table = read_pixel(spectra_cat, spectra_cat.pixels[0]).combine_chunks()
    part = table.slice(1, 2)
    rows = pa.concat_tables([part] * chunks)
    values = spectra_of(rows, "flux")
    stored = table["flux"].chunk(0).values.to_numpy()
    assert np.shares_memory(values, stored) == (chunks == 1)
    assert np.array_equal(values, np.tile(spectra_of(table, "flux")[1:3], (chunks, 1)))
