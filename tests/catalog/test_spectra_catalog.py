"""Spectra as a catalogue: imported in groups of files, written and checked."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from reference.fake_spectra import COUNT, GRID, GROUP, SCHEMA, SMALL, content, fake_reader, pixels_of

from stellarscale.catalog import spill
from stellarscale.catalog.import_plan import ImportConfig, default_max_rows, plan_import, prepare_output
from stellarscale.catalog.importer import import_files
from stellarscale.catalog.reader import open_stored, read_columns, read_pixel
from stellarscale.catalog.spill import spill_source
from stellarscale.catalog.verify import verify
from stellarscale.catalog.wide import parts, row_bytes, wide_columns
from stellarscale.catalog.writer import WriteOptions, finish_catalog, write_pixel, write_pixel_pieces
from stellarscale.errors import CatalogError, ConfigError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import load_survey
from stellarscale.spectra_columns import grid_of, spectra_of

reader = fake_reader  # used by every test of this module


def test_every_spectrum_is_stored_with_its_own_pixels(spectra_cat, spectra_files):
    table = pa.concat_tables([read_pixel(spectra_cat, pixel) for pixel in spectra_cat.pixels])
    assert table.num_rows == COUNT
    assert grid_of(table.schema) == grid_of(table.schema, "ivar") == GRID
    flux, ivar = spectra_of(table, "flux"), spectra_of(table, "ivar")
    for row, name in enumerate(table["spectrum_id"].to_pylist()):
        number = int(name[-5:])
        ra, dec, snr, level = np.load(spectra_files / f"plate{number // 100:03d}" / f"{name}.npy")
        assert (table["ra"][row].as_py(), table["dec"][row].as_py()) == (ra, dec)
        assert table["snr_i"][row].as_py() == np.float32(snr)
        expected = pixels_of(level, number)
        assert np.array_equal(flux[row], expected[0])
        assert np.array_equal(ivar[row], expected[1])


def test_partitions_and_row_groups_have_the_size_asked_for(spectra_cat):
    for pixel in spectra_cat.pixels:
        path = next(spectra_cat.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
        metadata = pq.read_metadata(path)
        assert metadata.num_rows <= SMALL.max_rows
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        assert all(count == GROUP for count in rows[:-1])
        sky = read_pixel(spectra_cat, pixel, columns=["ra"])["_healpix_29"].to_numpy()
        assert (np.diff(sky) >= 0).all()


def test_vectors_are_split_by_bytes_without_dictionary_and_statistics(spectra_cat):
    metadata = pq.read_metadata(next(spectra_cat.root.rglob("Npix=*.parquet")))
    columns = {metadata.row_group(0).column(i).path_in_schema: i for i in range(metadata.num_columns)}
    for name in ("flux.list.element", "ivar.list.element"):
        chunk = metadata.row_group(0).column(columns[name])
        assert "BYTE_STREAM_SPLIT" in chunk.encodings
        assert "PLAIN_DICTIONARY" not in chunk.encodings
        assert "RLE_DICTIONARY" not in chunk.encodings
        assert not chunk.has_dictionary_page
        assert not chunk.is_stats_set
        assert chunk.compression == "ZSTD"
    assert metadata.row_group(0).column(columns["ra"]).is_stats_set


def test_the_same_bytes_whatever_the_groups(spectra_cat, spectra_files, tmp_path):
    other = replace(SMALL, files_at_once=1000)
    import_files([spectra_files / "*"], SCHEMA, tmp_path / "other", other)
    assert content(tmp_path / "other") == content(spectra_cat.root)


def test_slabs_are_what_one_table_would_be(spectra_cat, tmp_path):
    for pixel in spectra_cat.pixels:
        write_pixel(tmp_path / "again", pixel, read_pixel(spectra_cat, pixel), SMALL.write)
    assert content(tmp_path / "again") == content(spectra_cat.root)


def test_files_that_fail_are_rejected_with_their_own_name(spectra_files, tmp_path):
    shutil.copytree(spectra_files, tmp_path / "in")
    bad = tmp_path / "in" / "plate003" / "spec-0-00312.npy"
    bad.write_bytes(b"")
    (tmp_path / "in" / "README").write_text("not a spectrum")
    summary = import_files([tmp_path / "in"], SCHEMA, tmp_path / "cat", SMALL)
    assert (summary.files, summary.rows_in, summary.rows_out, summary.rejected) == (COUNT + 1, COUNT + 1, COUNT - 1, 2)
    rejects = pq.read_table(tmp_path / "cat" / "rejects.parquet")
    assert rejects["file"].to_pylist() == [str(tmp_path / "in" / "README"), str(bad)]
    assert all("no spectrum" in reason for reason in rejects["reason"].to_pylist())


def test_when_every_file_fails_the_catalogue_is_empty(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("no")
    summary = import_files([tmp_path / "in"], SCHEMA, tmp_path / "cat")
    assert (summary.rows_out, summary.rejected, summary.partitions) == (0, 1, 0)
    assert open_stored(tmp_path / "cat").num_rows == 0
    assert verify(tmp_path / "cat").ok


def test_equal_ids_are_flagged(spectra_files, tmp_path):
    shutil.copytree(spectra_files / "plate000", tmp_path / "in" / "one")
    shutil.copytree(spectra_files / "plate000", tmp_path / "in" / "two")
    (tmp_path / "in" / "two" / "spec-0-00099.npy").unlink()
    summary = import_files([tmp_path / "in"], SCHEMA, tmp_path / "cat", SMALL)
    assert (summary.rows_out, summary.duplicates) == (199, 198)
    table = read_columns(open_stored(tmp_path / "cat"), ["spectrum_id", "quality_flags"])
    flagged = pc.bit_wise_and(table["quality_flags"], int(Flag.DUPLICATE_ID)).to_numpy() > 0
    assert flagged.sum() == 198
    assert set(np.array(table["spectrum_id"].to_pylist())[~flagged]) == {"spec-0-00099"}


def test_a_stopped_import_goes_on_and_reads_no_group_twice(spectra_files, tmp_path, monkeypatch, spectra_cat):
    reader = spill.read_spectra
    calls = []

    def counted(paths, *args, **kwargs):
        calls.append(len(paths))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return reader(paths, *args, **kwargs)

    monkeypatch.setattr(spill, "read_spectra", counted)
    with pytest.raises(KeyboardInterrupt):
        import_files([spectra_files], SCHEMA, tmp_path / "out", SMALL)
    import_files([spectra_files], SCHEMA, tmp_path / "out", SMALL)
    assert sum(calls) == COUNT + 70
    assert content(tmp_path / "out") == content(spectra_cat.root)


def test_the_plan_carries_no_list_to_the_workers(spectra_files, tmp_path):
    import pickle

    plan = plan_import([spectra_files], SCHEMA, SMALL)
    assert (plan.sources, plan.num_files, plan.files) == (13, COUNT, ())
    spill_dir = prepare_output(plan, tmp_path / "out")
    light = plan.for_workers()
    assert len(pickle.dumps(light)) < 10_000
    record = spill_source(12, light, spill_dir)
    assert record.rows_out == COUNT - 12 * 70


def test_the_digest_follows_grid_files_and_columns(spectra_files):
    digest = plan_import([spectra_files], SCHEMA, SMALL).digest
    assert plan_import([str(spectra_files)], SCHEMA, replace(SMALL, threads=7)).digest == digest
    assert plan_import([spectra_files], SCHEMA, replace(SMALL, grid=GRID)).digest == digest
    others = [
        plan_import([spectra_files], SCHEMA, replace(SMALL, grid=WaveGrid.covering(7000, 7400))),
        plan_import([spectra_files / "plate000"], SCHEMA, SMALL),
        plan_import([spectra_files], SCHEMA, replace(SMALL, columns=("spectrum_id",))),
    ]
    assert len({digest, *(plan.digest for plan in others)}) == 4


def test_grid_and_columns_can_be_chosen(spectra_files, tmp_path):
    grid = WaveGrid.covering(7100.0, 7400.0)
    config = replace(SMALL, grid=grid, columns=("spectrum_id", "flux"))
    import_files([spectra_files / "plate000"], SCHEMA, tmp_path / "cat", config)
    schema = open_stored(tmp_path / "cat").schema
    assert schema.names == ["_healpix_29", "spectrum_id", "ra", "dec", "quality_flags", "flux", "ivar"]
    assert grid_of(schema) == grid
    with pytest.raises(ConfigError, match="snr_k"):
        plan_import([spectra_files], SCHEMA, replace(SMALL, columns=("snr_k",)))


def test_batches_are_bounded_by_their_bytes(spectra_files):
    assert plan_import([spectra_files], SCHEMA).files_per_batch == 500
    wide = WaveGrid(3.5, 1e-6, 100_000)
    assert plan_import([spectra_files], SCHEMA, ImportConfig(grid=wide)).files_per_batch == (64 << 20) // 800_000


def test_a_grid_for_a_survey_of_tables_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no spectra"):
        plan_import([tmp_path / "x.csv"], load_survey("user_table"), ImportConfig(grid=GRID))


def test_partitions_of_spectra_are_small():
    assert default_max_rows(SCHEMA) == 20_000
    assert default_max_rows(load_survey("user_table")) == 1_000_000
    spectra = pa.schema([("flux", pa.list_(pa.float32(), 300))])
    assert WriteOptions().group_rows(spectra) == 4096
    assert WriteOptions().group_rows(pa.schema([("mags", pa.list_(pa.float32(), 5))])) == 100_000


def test_parts_have_a_bounded_size():
    table = pa.table({"flux": pa.array([[0.0] * 300] * 10, pa.list_(pa.float32(), 300))})
    assert row_bytes(table.schema) == 1200
    assert [part.num_rows for part in parts(table, 4)] == [4, 4, 2]
    assert wide_columns(table.schema) == ["flux"]
    huge = pa.table({"image": pa.array([[0.0] * (1 << 24)] * 3, pa.list_(pa.float32(), 1 << 24))})
    assert [part.num_rows for part in parts(huge, 100)] == [2, 1]


def test_pieces_must_follow_each_other(spectra_cat, tmp_path):
    pixel, out = spectra_cat.pixels[0], tmp_path / "out"
    table = read_pixel(spectra_cat, pixel)
    halves = [table.slice(5), table.slice(0, 5)]
    with pytest.raises(CatalogError, match="outside of their partition"):
        write_pixel_pieces(out, pixel, halves, table.schema)
    assert not list(out.rglob("*.parquet"))
    record = write_pixel_pieces(out, pixel, halves[::-1], table.schema)
    assert record.rows == table.num_rows
    assert write_pixel_pieces(out, pixel, [table.slice(0, 0)], table.schema).rows == 0
    assert not list(out.rglob("*.parquet"))


def test_a_whole_catalogue_is_found_whole(spectra_cat):
    report = verify(spectra_cat.root)
    assert report.ok
    assert report.rows == COUNT


@pytest.mark.parametrize(("name", "value"), [("flux", np.nan), ("flux", np.inf), ("ivar", np.nan), ("ivar", -1.0)])
def test_a_value_that_is_no_measurement_is_told(spectra_copy, name, value):
    pixel = spectra_copy.pixels[1]
    table = read_pixel(spectra_copy, pixel)
    values = spectra_of(table, name).copy()
    values[3, 5:9] = value
    kind = table.schema.field(name)
    wrong = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind.type)
    write_pixel(
        spectra_copy.root, pixel, table.set_column(table.schema.get_field_index(name), kind, wrong), SMALL.write
    )
    finish_catalog(spectra_copy.root, spectra_copy.properties, spectra_copy.schema, spectra_copy.pixels)
    problems = verify(spectra_copy.root).problems
    assert [(problem.what, problem.seen) for problem in problems] == [
        (f"{name} holds what is no measurement", "4 pixels")
    ]
    assert verify(spectra_copy.root, deep=False).ok


def test_vectors_of_another_length_are_told(spectra_copy):
    pixel = spectra_copy.pixels[1]
    table = read_pixel(spectra_copy, pixel)
    short = pa.FixedSizeListArray.from_arrays(pa.array(spectra_of(table, "flux")[:, :299].ravel()), 299)
    write_pixel(spectra_copy.root, pixel, table.set_column(table.schema.get_field_index("flux"), "flux", short))
    assert any("another schema" in problem.what for problem in verify(spectra_copy.root, deep=False).problems)
