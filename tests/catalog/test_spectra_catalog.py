"""Spectra as a catalogue: imported in groups of files, written, read, checked, exported and matched."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from reference.fake_spectra import GRID, SCHEMA, fake_reader, pixels_of, write_files
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog import spill
from stellarscale.catalog.export import export
from stellarscale.catalog.gather import gather_rows
from stellarscale.catalog.import_plan import ImportConfig, default_max_rows, plan_import, prepare_output
from stellarscale.catalog.importer import import_files
from stellarscale.catalog.reader import open_stored, read_batches_of, read_columns, read_pixel
from stellarscale.catalog.spill import spill_source
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.catalog.wide import parts, row_bytes, wide_columns
from stellarscale.catalog.writer import WriteOptions, finish_catalog, write_pixel, write_pixel_pieces
from stellarscale.engine.lazy import open_catalog
from stellarscale.errors import CatalogError, ConfigError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.schema import load_survey
from stellarscale.spectra_columns import grid_of, spectra_of

COUNT = 900
GROUP = 25
SMALL = ImportConfig(max_rows=60, files_at_once=70, write=WriteOptions(row_group_rows=GROUP))

reader = fake_reader  # used by every test of this module


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("spectra") / "in"
    write_files(folder, COUNT)
    return folder


@pytest.fixture(scope="module")
def cat(files):
    import_files([files], SCHEMA, files.parent / "cat", SMALL)
    return open_stored(files.parent / "cat")


@pytest.fixture
def own(cat, tmp_path):
    """A copy to spoil."""
    shutil.copytree(cat.root, tmp_path / "own")
    return open_stored(tmp_path / "own")


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("Npix=*"))}


def test_every_spectrum_is_stored_with_its_own_pixels(cat, files):
    table = pa.concat_tables([read_pixel(cat, pixel) for pixel in cat.pixels])
    assert table.num_rows == COUNT
    assert grid_of(table.schema) == grid_of(table.schema, "ivar") == GRID
    flux, ivar = spectra_of(table, "flux"), spectra_of(table, "ivar")
    for row, name in enumerate(table["spectrum_id"].to_pylist()):
        number = int(name[-5:])
        ra, dec, snr, level = np.load(files / f"plate{number // 100:03d}" / f"{name}.npy")
        assert (table["ra"][row].as_py(), table["dec"][row].as_py()) == (ra, dec)
        assert table["snr_i"][row].as_py() == np.float32(snr)
        expected = pixels_of(level, number)
        assert np.array_equal(flux[row], expected[0])
        assert np.array_equal(ivar[row], expected[1])


def test_partitions_and_row_groups_have_the_size_asked_for(cat):
    for pixel in cat.pixels:
        path = next(cat.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
        metadata = pq.read_metadata(path)
        assert metadata.num_rows <= SMALL.max_rows
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        assert all(count == GROUP for count in rows[:-1])
        sky = read_pixel(cat, pixel, columns=["ra"])["_healpix_29"].to_numpy()
        assert (np.diff(sky) >= 0).all()


def test_vectors_are_split_by_bytes_without_dictionary_and_statistics(cat):
    metadata = pq.read_metadata(next(cat.root.rglob("Npix=*.parquet")))
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


def test_the_same_bytes_whatever_the_groups(cat, files, tmp_path):
    other = replace(SMALL, files_at_once=1000)
    import_files([files / "*"], SCHEMA, tmp_path / "other", other)
    assert content(tmp_path / "other") == content(cat.root)


def test_slabs_are_what_one_table_would_be(cat, tmp_path):
    for pixel in cat.pixels:
        write_pixel(tmp_path / "again", pixel, read_pixel(cat, pixel), SMALL.write)
    assert content(tmp_path / "again") == content(cat.root)


def test_files_that_fail_are_rejected_with_their_own_name(files, tmp_path):
    shutil.copytree(files, tmp_path / "in")
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


def test_equal_ids_are_flagged(files, tmp_path):
    shutil.copytree(files / "plate000", tmp_path / "in" / "one")
    shutil.copytree(files / "plate000", tmp_path / "in" / "two")
    (tmp_path / "in" / "two" / "spec-0-00099.npy").unlink()
    summary = import_files([tmp_path / "in"], SCHEMA, tmp_path / "cat", SMALL)
    assert (summary.rows_out, summary.duplicates) == (199, 198)
    table = read_columns(open_stored(tmp_path / "cat"), ["spectrum_id", "quality_flags"])
    flagged = pc.bit_wise_and(table["quality_flags"], int(Flag.DUPLICATE_ID)).to_numpy() > 0
    assert flagged.sum() == 198
    assert set(np.array(table["spectrum_id"].to_pylist())[~flagged]) == {"spec-0-00099"}


def test_a_stopped_import_goes_on_and_reads_no_group_twice(files, tmp_path, monkeypatch, cat):
    reader = spill.read_spectra
    calls = []

    def counted(paths, *args, **kwargs):
        calls.append(len(paths))
        if len(calls) == 5:
            raise KeyboardInterrupt
        return reader(paths, *args, **kwargs)

    monkeypatch.setattr(spill, "read_spectra", counted)
    with pytest.raises(KeyboardInterrupt):
        import_files([files], SCHEMA, tmp_path / "out", SMALL)
    import_files([files], SCHEMA, tmp_path / "out", SMALL)
    assert sum(calls) == COUNT + 70
    assert content(tmp_path / "out") == content(cat.root)


def test_the_plan_carries_no_list_to_the_workers(files, tmp_path):
    import pickle

    plan = plan_import([files], SCHEMA, SMALL)
    assert (plan.sources, plan.num_files, plan.files) == (13, COUNT, ())
    spill_dir = prepare_output(plan, tmp_path / "out")
    light = plan.for_workers()
    assert len(pickle.dumps(light)) < 10_000
    record = spill_source(12, light, spill_dir)
    assert record.rows_out == COUNT - 12 * 70


def test_the_digest_follows_grid_files_and_columns(files):
    digest = plan_import([files], SCHEMA, SMALL).digest
    assert plan_import([str(files)], SCHEMA, replace(SMALL, threads=7)).digest == digest
    assert plan_import([files], SCHEMA, replace(SMALL, grid=GRID)).digest == digest
    others = [
        plan_import([files], SCHEMA, replace(SMALL, grid=WaveGrid.covering(7000, 7400))),
        plan_import([files / "plate000"], SCHEMA, SMALL),
        plan_import([files], SCHEMA, replace(SMALL, columns=("spectrum_id",))),
    ]
    assert len({digest, *(plan.digest for plan in others)}) == 4


def test_grid_and_columns_can_be_chosen(files, tmp_path):
    grid = WaveGrid.covering(7100.0, 7400.0)
    config = replace(SMALL, grid=grid, columns=("spectrum_id", "flux"))
    import_files([files / "plate000"], SCHEMA, tmp_path / "cat", config)
    schema = open_stored(tmp_path / "cat").schema
    assert schema.names == ["_healpix_29", "spectrum_id", "ra", "dec", "quality_flags", "flux", "ivar"]
    assert grid_of(schema) == grid
    with pytest.raises(ConfigError, match="snr_k"):
        plan_import([files], SCHEMA, replace(SMALL, columns=("snr_k",)))


def test_batches_are_bounded_by_their_bytes(files):
    assert plan_import([files], SCHEMA).files_per_batch == 500
    wide = WaveGrid(3.5, 1e-6, 100_000)
    assert plan_import([files], SCHEMA, ImportConfig(grid=wide)).files_per_batch == (64 << 20) // 800_000


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


def test_pieces_must_follow_each_other(cat, tmp_path):
    pixel, out = cat.pixels[0], tmp_path / "out"
    table = read_pixel(cat, pixel)
    halves = [table.slice(5), table.slice(0, 5)]
    with pytest.raises(CatalogError, match="outside of their partition"):
        write_pixel_pieces(out, pixel, halves, table.schema)
    assert not list(out.rglob("*.parquet"))
    record = write_pixel_pieces(out, pixel, halves[::-1], table.schema)
    assert record.rows == table.num_rows
    assert write_pixel_pieces(out, pixel, [table.slice(0, 0)], table.schema).rows == 0
    assert not list(out.rglob("*.parquet"))


# Reading


def test_row_groups_come_one_by_one_along_the_sky(cat):
    for pixel in cat.pixels:
        tables = list(read_batches_of(cat, pixel))
        assert len(tables) == -(-cat.rows_of(pixel) // GROUP)
        assert pa.concat_tables(tables).equals(read_pixel(cat, pixel))
        narrow = list(read_batches_of(cat, pixel, columns=["snr_i"]))
        assert narrow[0].column_names == ["_healpix_29", "snr_i"]


def test_row_groups_of_a_part_of_the_sky(cat):
    ranges = parse_subset("cone:200,10,30").ranges()
    for pixel in cat.pixels:
        tables = list(read_batches_of(cat, pixel, ranges=ranges))
        whole = read_pixel(cat, pixel, ranges=ranges)
        assert pa.concat_tables([whole.slice(0, 0), *tables]).equals(whole)
        assert all(table.num_rows for table in tables)


def test_a_file_that_is_not_sorted_is_read_as_a_whole(cat, own):
    pixel = own.pixels[0]
    path = next(own.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.take(np.random.default_rng(1).permutation(table.num_rows)), path, row_group_size=13)
    read = pa.concat_tables(list(read_batches_of(own, pixel)))
    assert (np.diff(read["_healpix_29"].to_numpy()) >= 0).all()
    assert read.sort_by("spectrum_id").equals(read_pixel(cat, pixel).sort_by("spectrum_id"))


def test_a_damaged_file_is_named(own):
    pixel = own.pixels[0]
    path = next(own.root.rglob(f"Norder={pixel.order}/*/Npix={pixel.ipix}.parquet"))
    raw = path.read_bytes()
    path.write_bytes(raw[:4] + b"\xff" * 60 + raw[64:])
    with pytest.raises(CatalogError, match="damaged"):
        list(read_batches_of(own, pixel))
    assert not verify(own.root).ok


def test_rows_are_found_by_id(cat):
    wanted = [f"spec-0-{number:05d}" for number in (7, 8, 9, 208, 209, 777)]
    rows = gather_rows(cat, "spectrum_id", [*wanted, "absent", None], ["flux", "snr_i"])
    assert rows.column_names == ["_healpix_29", "spectrum_id", "flux", "snr_i"]
    assert sorted(rows["spectrum_id"].to_pylist()) == wanted
    assert (np.diff(rows["_healpix_29"].to_numpy()) >= 0).all()
    assert grid_of(rows.schema) == GRID
    everything = read_columns(cat, ["spectrum_id"])["spectrum_id"].to_pylist()
    assert gather_rows(cat, "spectrum_id", everything, ["flux"]).num_rows == COUNT
    assert gather_rows(cat, "spectrum_id", [], ["flux"]).num_rows == 0


def test_rows_of_one_place_in_two_row_groups_come_once(tmp_path):
    table = mock_table(200, patch=(10.0, 5.0, 1.0), seed=4)
    table = table.take(pa.array(np.repeat(np.arange(200), 3)))
    stored, _ = write_mock(tmp_path / "c", table, max_rows=1000, row_group_rows=7)
    ids = table["source_id"].to_pylist()
    for some in (ids, ids[:30], ids[5:6], ids[::17]):
        rows = gather_rows(stored, "source_id", sorted(set(some)), ["ra"])
        assert rows.num_rows == 3 * len(set(some))


def test_only_row_groups_that_hold_an_id_are_decoded(cat, monkeypatch):
    read: list[int] = []
    original = pq.ParquetFile.read_row_groups

    def counted(self, groups, columns=None, **kwargs):
        if "flux" in columns:
            read.extend(groups)
        return original(self, groups, columns=columns, **kwargs)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    gather_rows(cat, "spectrum_id", ["spec-0-00345"], ["flux"])
    assert len(read) == 1


def test_values_of_another_kind_are_refused(cat):
    with pytest.raises(SchemaError, match="snr_i"):
        gather_rows(cat, "snr_i", ["bright"], [])
    with pytest.raises(SchemaError, match="star_id"):
        gather_rows(cat, "star_id", [1], [])


def test_views(cat):
    view = open_catalog(cat.root)
    cone = view.cone(200.0, 10.0, 30.0).compute()
    box = view.box(350.0, 20.0, -30.0, 30.0).columns(["snr_i", "flux"]).compute()
    whole = view.compute()
    inside = parse_subset("cone:200,10,30").mask(whole, "ra", "dec")
    assert 0 < cone.num_rows == inside.sum()
    assert spectra_of(cone, "flux").tolist() == spectra_of(whole.filter(pa.array(inside)), "flux").tolist()
    assert box.column_names == ["_healpix_29", "snr_i", "flux"]
    assert box.num_rows == parse_subset("box:350,20,-30,30").mask(whole, "ra", "dec").sum() > 0


def test_columns_that_are_not_chosen_are_not_read(cat, monkeypatch):
    from stellarscale.engine import lazy

    seen = []
    monkeypatch.setattr(lazy, "read_pixel", lambda *a, **k: seen.append(k["columns"]) or read_pixel(*a, **k))
    view = open_catalog(cat.root).cone(200.0, 10.0, 40.0).columns(["snr_i"])
    assert view.compute().column_names == ["_healpix_29", "snr_i"]
    assert all("flux" not in columns for columns in seen)
    assert len(seen) > 0


def test_a_view_is_written_with_its_grid(cat, tmp_path):
    written = open_catalog(cat.root).cone(200.0, 10.0, 30.0).write(tmp_path / "part")
    assert grid_of(written.schema) == GRID
    assert verify(tmp_path / "part").ok


def test_dask_holds_spectra_as_arrow_not_as_objects(cat):
    frame = open_catalog(cat.root).to_dask()
    assert all(str(kind) != "object" for kind in frame.dtypes)
    assert "fixed_size_list" in str(frame.dtypes["flux"])
    computed = frame[["snr_i", "flux"]].compute()
    assert len(computed) == COUNT
    assert "fixed_size_list" in str(computed.dtypes["flux"])
    assert len(computed["flux"].iloc[0]) == GRID.n_pix
    assert frame["snr_i"].mean().compute() == pytest.approx(float(computed["snr_i"].mean()), rel=1e-5)


# Checking


def test_a_whole_catalogue_is_found_whole(cat):
    report = verify(cat.root)
    assert report.ok
    assert report.rows == COUNT


@pytest.mark.parametrize(("name", "value"), [("flux", np.nan), ("flux", np.inf), ("ivar", np.nan), ("ivar", -1.0)])
def test_a_value_that_is_no_measurement_is_told(own, name, value):
    pixel = own.pixels[1]
    table = read_pixel(own, pixel)
    values = spectra_of(table, name).copy()
    values[3, 5:9] = value
    kind = table.schema.field(name)
    wrong = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=kind.type)
    write_pixel(own.root, pixel, table.set_column(table.schema.get_field_index(name), kind, wrong), SMALL.write)
    finish_catalog(own.root, own.properties, own.schema, own.pixels)
    problems = verify(own.root).problems
    assert [(problem.what, problem.seen) for problem in problems] == [
        (f"{name} holds what is no measurement", "4 pixels")
    ]
    assert verify(own.root, deep=False).ok


def test_vectors_of_another_length_are_told(own):
    pixel = own.pixels[1]
    table = read_pixel(own, pixel)
    short = pa.FixedSizeListArray.from_arrays(pa.array(spectra_of(table, "flux")[:, :299].ravel()), 299)
    write_pixel(own.root, pixel, table.set_column(table.schema.get_field_index("flux"), "flux", short))
    assert any("another schema" in problem.what for problem in verify(own.root, deep=False).problems)


# Other tools


def test_export_to_fits(cat, tmp_path):
    from astropy.io import fits

    assert export(cat, tmp_path / "x.fits", format="fits") == COUNT
    whole = pa.concat_tables([read_pixel(cat, pixel) for pixel in cat.pixels])
    with fits.open(tmp_path / "x.fits") as hdus:
        hdus.verify("exception")
        header, data = hdus[1].header, hdus[1].data
        place = data.names.index("flux") + 1
        assert header[f"TFORM{place}"] == f"{GRID.n_pix}E"
        assert np.array_equal(data["flux"], spectra_of(whole, "flux"))
        assert np.array_equal(data["ivar"], spectra_of(whole, "ivar"))
        assert data["spectrum_id"].tolist() == whole["spectrum_id"].to_pylist()


def test_export_of_a_part_of_the_sky(cat, tmp_path):
    subset = parse_subset("cone:200,10,30")
    rows = export(cat, tmp_path / "x.parquet", format="parquet", subset=subset, columns=["spectrum_id", "flux"])
    assert rows == open_catalog(cat.root).cone(200, 10, 30).compute().num_rows
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["spectrum_id", "flux"]
    assert grid_of(table.schema) == GRID


def test_export_to_csv_leaves_the_spectra_out_and_says_so(cat, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert export(cat, tmp_path / "x.csv", format="csv") == COUNT
    assert "flux, ivar left out" in caplog.text
    assert pcsv.read_csv(tmp_path / "x.csv").column_names == [
        *("_healpix_29", "spectrum_id", "ra", "dec", "snr_i", "quality_flags")
    ]
    with pytest.raises(SchemaError, match="flux"):
        export(cat, tmp_path / "y.csv", format="csv", columns=["ra", "flux"])


def test_export_to_votable(cat, tmp_path):
    from astropy.io.votable import parse, validate

    export(cat, tmp_path / "x.vot", format="votable")
    table = parse(tmp_path / "x.vot", verify="exception").get_first_table()
    field = next(field for field in table.fields if field.name == "flux")
    assert (field.datatype, field.arraysize) == ("float", str(GRID.n_pix))
    assert table.array["flux"].shape == (COUNT, GRID.n_pix)
    with (tmp_path / "log").open("w") as log:
        assert validate(str(tmp_path / "x.vot"), output=log)


def test_votable_metadata_of_a_partition(cat):
    import io

    from astropy.io.votable import parse

    path = next(cat.root.rglob("Npix=*.parquet"))
    xml = pq.read_metadata(path).metadata[b"IVOA.VOTable-Parquet.content"]
    fields = {field.name: field for field in parse(io.BytesIO(xml), verify="exception").get_first_table().fields}
    assert fields["ivar"].arraysize == str(GRID.n_pix)
    assert fields["ivar"].ucd == "stat.weight;phot.flux.density"
    assert fields["flux"].description


# Matching


def stars_near(cat, tmp_path: Path):
    """A catalogue of a star beside each third spectrum, named after it."""
    table = read_columns(cat, ["spectrum_id", "ra", "dec"])
    table = table.take(pa.array(np.arange(0, COUNT, 3)))
    rows = pa.table(
        {
            "source_id": pa.array([int(name[-5:]) for name in table["spectrum_id"].to_pylist()]),
            "ra": table["ra"],
            "dec": pa.array(np.clip(table["dec"].to_numpy() + 0.1 / 3600, -90, 90)),
        }
    )
    path = tmp_path / "stars.csv"
    pcsv.write_csv(rows, path)
    schema = load_survey("user_table")
    import_files([path], schema, tmp_path / "stars", ImportConfig(max_rows=100))
    return tmp_path / "stars"


def test_crossmatch_with_spectra_on_the_left(cat, tmp_path):
    stars = stars_near(cat, tmp_path)
    matched = open_catalog(cat.root).crossmatch(stars, radius_arcsec=1.0, prefix="star_", how="left")
    table = matched.compute()
    assert table.num_rows == COUNT
    assert grid_of(table.schema) == GRID
    found = table.filter(pc.is_valid(table["star_source_id"]))
    assert found.num_rows >= COUNT // 3
    flux = spectra_of(table, "flux")
    for row in (0, 411, 899):
        number = int(table["spectrum_id"][row].as_py()[-5:])
        level = flux[row, 0] / (1 + 0.3 * np.sin(GRID.wave_aa[0] / (20 + number % 7)))
        assert np.allclose(flux[row], pixels_of(level, number)[0], rtol=1e-5)


def test_crossmatch_with_spectra_on_the_right(cat, tmp_path):
    stars = stars_near(cat, tmp_path)
    matched = open_catalog(stars).crossmatch(cat.root, radius_arcsec=1.0, prefix="spec_", how="left")
    table = matched.compute()
    assert table.num_rows == COUNT // 3
    assert table["spec_flux"].null_count == 0
    assert grid_of(table.schema, "spec_flux") == GRID
    assert matched.write(tmp_path / "matched").stored.num_rows == COUNT // 3
    assert verify(tmp_path / "matched").ok
    far = open_catalog(stars).crossmatch(cat.root, radius_arcsec=0.01, prefix="spec_", how="left").compute()
    assert far["spec_flux"].null_count == far.num_rows
    assert (spectra_of(far, "spec_ivar") == 0).all()


def test_row_groups_of_spectra_are_read_in_parts(cat, monkeypatch):
    whole = {pixel: read_pixel(cat, pixel) for pixel in cat.pixels}
    monkeypatch.setattr("stellarscale.catalog.wide._READ_BYTES", 5 * row_bytes(cat.schema))
    for pixel in cat.pixels:
        tables = list(read_batches_of(cat, pixel))
        assert max(table.num_rows for table in tables) <= 5
        assert pa.concat_tables(tables).equals(whole[pixel])


@pytest.mark.parametrize("chunks", [1, 2])
def test_spectra_of_one_chunk_are_not_copied(cat, chunks):
    table = read_pixel(cat, cat.pixels[0]).combine_chunks()
    part = table.slice(1, 2)
    rows = pa.concat_tables([part] * chunks)
    values = spectra_of(rows, "flux")
    stored = table["flux"].chunk(0).values.to_numpy()
    assert np.shares_memory(values, stored) == (chunks == 1)
    assert np.array_equal(values, np.tile(spectra_of(table, "flux")[1:3], (chunks, 1)))
