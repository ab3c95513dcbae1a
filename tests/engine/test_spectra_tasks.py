"""Partitions of spectra on disk: matched by row groups, columns attached, errors added."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import write_mock

from stellarscale.catalog.layout import pixel_path
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.spectra_fits import LabelledSpectra, write_spectra_fits
from stellarscale.catalog.subset import parse_subset
from stellarscale.engine import spectra_tasks
from stellarscale.engine.spectra_tasks import (
    AttachTask,
    ErrorsTask,
    ReferenceFile,
    SpectraTask,
    attach_pixel,
    check_spectra,
    errors_pixel,
    load_references,
    match_spectra_pixel,
)
from stellarscale.errors import InputError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.partition.attach import AttachConfig, KeyColumns
from stellarscale.partition.label_errors import ErrorsConfig
from stellarscale.partition.spectra_match import SpectraMatchConfig, match_partition
from stellarscale.schema import load_product
from stellarscale.settings.spectra_matching import SpectraMatching
from stellarscale.spectra_columns import spectrum_array, spectrum_field

GRID = WaveGrid.covering(6000, 6200)
SETTINGS = SpectraMatching(
    windows_aa=((6010, 6190),),
    min_pixels=40,
    columns={"obsid": "obsid", "ra": "ra", "dec": "dec", "snr_i": "snr_i"},
)
CONFIG = SpectraMatchConfig(SETTINGS, load_product("laspm"))
RECORD = {"pixel", "rows_in", "rows_out", "bytes", "checksum"}
N = 700


def model(teff):
    """Spectra with features that deepen as the stars cool."""
    lines = np.random.default_rng(8).uniform(6000, 6200, 12)
    profile = np.exp(-0.5 * ((GRID.wave_aa - lines[:, None]) / 3.0) ** 2)
    depth = 0.5 - 0.3 * np.cos(np.arange(12)) * (np.asarray(teff)[:, None] - 3400) / 600
    return np.prod(1.0 - depth[:, :, None] * profile, axis=1)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> ReferenceFile:
    path = tmp_path_factory.mktemp("references") / "grid.fits"
    teff = np.linspace(2900, 3900, 41)
    labels = pa.table({"TEFF": teff, "logg": 4.5 + teff * 1e-4, "m_h": np.zeros(41)})
    digest = write_spectra_fits(path, LabelledSpectra(model(teff).astype(np.float32), None, GRID, labels))
    return ReferenceFile(path, digest)


@pytest.fixture(scope="module")
def spectra() -> pa.Table:
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(10, 14, N), rng.uniform(-2, 2, N)
    sky = pixel_of(ra, dec)
    order = np.argsort(sky)
    clean = model(rng.uniform(3000, 3800, N))
    flux = clean + rng.normal(0, 0.02, clean.shape)
    fields = [pa.field("_healpix_29", pa.int64()), pa.field("obsid", pa.int64())]
    fields += [pa.field(name, pa.float64()) for name in ("ra", "dec", "snr_i", "rv")]
    fields += [spectrum_field("flux", GRID), spectrum_field("ivar", GRID), pa.field("quality_flags", pa.int32())]
    columns = [sky[order], rng.permutation(N), ra[order], dec[order], np.full(N, 40.0), rng.normal(0, 30, N)]
    columns += [spectrum_array(flux, "flux", GRID), spectrum_array(np.full(flux.shape, 2500.0), "ivar", GRID)]
    columns += [np.full(N, int(Flag.SURVEY_FLAG), np.int32)]
    return pa.table([pa.array(c) if isinstance(c, np.ndarray) else c for c in columns], schema=pa.schema(fields))


@pytest.fixture(scope="module")
def root(tmp_path_factory, spectra) -> Path:
    path = tmp_path_factory.mktemp("spectra") / "spectra"
    write_mock(path, spectra, max_rows=300, row_group_rows=64)
    return path


def written(out: Path, root: Path) -> pa.Table:
    paths = [pixel_path(out, pixel) for pixel in open_stored(root).pixels]
    return pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths if path.exists()])


def test_partitions_are_matched_as_the_whole_table_is(root, file, spectra, tmp_path):
    task = SpectraTask(root, tmp_path, CONFIG, file)
    records = [match_spectra_pixel(task, pixel) for pixel in open_stored(root).pixels]
    assert all(record.keys() == RECORD for record in records)
    assert all(record["rows_in"] == record["rows_out"] > 0 for record in records)
    assert len(records) > 1
    result = written(tmp_path, root)
    whole = match_partition(spectra, CONFIG, load_references(file, SETTINGS))
    assert result.num_rows == N
    for name in whole.column_names:
        assert result[name].to_pylist() == whole[name].to_pylist(), name
    assert result.schema.field("teff").metadata[b"unit"] == b"K"
    assert all(value & Flag.SURVEY_FLAG for value in result["quality_flags"].to_pylist())


def test_a_catalogue_of_the_result_opens(root, file, tmp_path):
    task = SpectraTask(root, tmp_path / "raw", CONFIG, file)
    for pixel in open_stored(root).pixels:
        match_spectra_pixel(task, pixel)
    table = written(tmp_path / "raw", root)
    stored, _ = write_mock(tmp_path / "catalogue", table, max_rows=300)
    back = read_columns(stored, ["teff", "reference_ids", "reference_weights"])
    assert back["reference_ids"].type == pa.list_(pa.field("element", pa.int32()), 5)
    assert back.num_rows == N


def test_subsets_leave_the_other_rows_out(root, file, tmp_path):
    task = SpectraTask(root, tmp_path, CONFIG, file, subset=parse_subset("cone:12,0,1"))
    records = [match_spectra_pixel(task, pixel) for pixel in open_stored(root).pixels]
    result = written(tmp_path, root)
    assert sum(record["rows_in"] for record in records) == result.num_rows
    assert 60 < result.num_rows < 250
    separation = np.hypot(result["ra"].to_numpy() - 12, result["dec"].to_numpy())
    assert separation.max() <= 1.001


def test_references_are_read_once_and_only_if_they_are_the_same(file, tmp_path):
    assert load_references(file, SETTINGS) is load_references(file, SETTINGS.model_copy())
    with pytest.raises(InputError, match="changed"):
        load_references(replace(file, digest="0" * 64), SETTINGS)
    with pytest.raises(InputError, match=r"no such label.*Needed: T"):
        load_references(replace(file, names=(("teff", "T"),)), SETTINGS)
    far = SETTINGS.model_copy(update={"windows_aa": ((6000.0, 8800.0),)})
    with pytest.raises(InputError, match=r"do not cover.*grid\.fits"):
        load_references(file, far)


def test_what_cannot_work_is_told_before_any_work(root, file, spectra, tmp_path):
    task = SpectraTask(root, tmp_path / "out", CONFIG, file)
    assert check_spectra(task).names[:5] == ["_healpix_29", "obsid", "ra", "dec", "snr_i"]
    with pytest.raises(SchemaError, match="Needed: gaia_id"):
        check_spectra(replace(task, config=replace(CONFIG, matching=SETTINGS.model_copy(update={"rv": "gaia_id"}))))
    short = WaveGrid(GRID.start_dex, GRID.step_dex, 40)
    fields = [spectrum_field(name, short) for name in ("flux", "ivar")]
    cut = spectra.drop(["flux", "ivar"])
    for each in fields:
        cut = cut.append_column(each, spectrum_array(np.ones((N, 40)), each.name, short))
    stored, _ = write_mock(tmp_path / "short", cut, max_rows=1000)
    with pytest.raises(InputError, match=r"do not cover.*spectra: 40 pixels"):
        check_spectra(replace(task, source=stored.root))
    assert not (tmp_path / "out").exists()


def test_duplicate_references_are_told(tmp_path, caplog):
    teff = np.array([3000.0, 3100.0, 3000.0])
    labels = pa.table({"teff": teff, "logg": teff, "m_h": teff})
    made = LabelledSpectra(model(teff).astype(np.float32), None, GRID, labels)
    path = tmp_path / "doubled.fits"
    references = load_references(ReferenceFile(path, write_spectra_fits(path, made)), SETTINGS)
    assert references.duplicates == ((2, 0),)
    assert "row 2 is that of row 0" in caplog.text


def test_row_groups_of_others_are_matched_in_pieces(root, file, tmp_path, monkeypatch):
    pixel = open_stored(root).pixels[0]
    first = match_spectra_pixel(SpectraTask(root, tmp_path / "a", CONFIG, file), pixel)
    monkeypatch.setattr(spectra_tasks, "_ROWS_AT_A_TIME", 17)
    assert match_spectra_pixel(SpectraTask(root, tmp_path / "b", CONFIG, file), pixel) == first


@pytest.fixture(scope="module")
def stars(tmp_path_factory, spectra) -> Path:
    """A tabular catalogue of most of the spectra, a few of them twice, positions off by up to 3 arcsec."""
    rng = np.random.default_rng(9)
    rows = np.concatenate([np.arange(0, N, 3), np.arange(1, N, 3), np.arange(0, 60, 3)])
    ra = spectra["ra"].to_numpy()[rows] + rng.uniform(-1, 1, len(rows)) * 3 / 3600
    dec = spectra["dec"].to_numpy()[rows] + rng.uniform(-1, 1, len(rows)) * 3 / 3600
    columns = {"obsid": spectra["obsid"].to_numpy()[rows], "ra": ra, "dec": dec, "source_id": rows + 10**12}
    sky = pixel_of(ra, dec)
    order = np.argsort(sky, kind="stable")
    table = pa.table({"_healpix_29": sky[order]} | {name: values[order] for name, values in columns.items()})
    path = tmp_path_factory.mktemp("stars") / "stars"
    write_mock(path, table, max_rows=200)
    return path


def test_columns_are_attached_across_partition_borders(root, stars, file, spectra, tmp_path):
    config = AttachConfig(KeyColumns("obsid"), KeyColumns("obsid"), {"source_id": "source_id"}, 10.0)
    task = AttachTask(root, stars, tmp_path, config)
    records = [attach_pixel(task, pixel) for pixel in open_stored(root).pixels]
    assert all(record.keys() == RECORD | {"matched", "several"} for record in records)
    assert sum(record["rows_in"] for record in records) == sum(record["rows_out"] for record in records) == N
    found = np.arange(N) % 3 != 2
    assert sum(record["matched"] for record in records) == found.sum()
    assert sum(record["several"] for record in records) == 20
    result = written(tmp_path, root)
    expected = [row + 10**12 if there else None for row, there in enumerate(found)]
    assert result["source_id"].to_pylist() == expected


class Model:
    """Errors of three labels."""

    def errors(self, snr):
        return np.outer(1 / snr, [2000.0, 2.0, 4.0])


def test_errors_are_added_to_a_matched_catalogue(root, file, tmp_path):
    for pixel in open_stored(root).pixels:
        match_spectra_pixel(SpectraTask(root, tmp_path / "raw", CONFIG, file), pixel)
    stored, _ = write_mock(tmp_path / "catalogue", written(tmp_path / "raw", root), max_rows=300)
    task = ErrorsTask(stored.root, tmp_path / "out", ErrorsConfig(SETTINGS.labels, "snr_i", CONFIG.product, (Model(),)))
    records = [errors_pixel(task, pixel) for pixel in stored.pixels]
    assert sum(record["rows_out"] for record in records) == N
    result = written(tmp_path / "out", stored.root)
    assert set(result["teff_err"].to_pylist()) == {50.0}
    assert result.column_names.index("teff_err") == result.column_names.index("teff") + 1


def test_tasks_can_travel(root, file, tmp_path):
    task = SpectraTask(root, tmp_path, CONFIG, file, subset=parse_subset("sample:0.5"))
    assert pickle.loads(pickle.dumps(task)) == task
