"""The whole mock of images: valid files, magnitudes as measured from them, truth, manifest, the same bytes again."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pyarrow.compute as pc
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reference.command_line import summary
from reference.mock_smss import SmssMock, small_mock, write_smss

from stellarscale.errors import InputError
from stellarscale.kernels.dust import ebv_sfd98
from stellarscale.schema import load_survey
from stellarscale.settings.stamps import BANDS
from stellarscale.simulate import simulate_images
from stellarscale.simulate.smss_tables import clipped_mean
from stellarscale.surveys.cutouts import read_cutouts
from stellarscale.surveys.dust import load_dust_maps
from stellarscale.surveys.read import inspect, read_batches

SURVEYS = (
    "skymapper_dr4", "skymapper_dr4_photometry", "skymapper_dr4_images", "gaia_dr3", "galah_dr3", "apogee_dr17",
    "lamost_lsp3",
)  # fmt: skip


@pytest.fixture(scope="module")
def mock() -> SmssMock:
    return small_mock()


@pytest.fixture(scope="module")
def truth(mock) -> dict[str, np.ndarray]:
    return {name: mock.truth[name].to_numpy() for name in mock.truth.column_names}


def digests(folder) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_manifest_counts_what_is_there(mock):
    manifest = json.loads((mock.folder / "manifest.json").read_text())
    assert {name: manifest[name] for name in manifest} == {name: mock.manifest[name] for name in manifest}
    files = {str(path.relative_to(mock.folder)) for path in mock.folder.glob("cutouts/*/*/*.fits")}
    assert len(files) == manifest["cutouts"]["files"] > 1000
    detections = mock.detections
    named = {
        str(mock.cutout(*row.values()).relative_to(mock.folder))
        for row in detections.select(["object_id", "image_id", "ccd"]).to_pylist()
    }
    assert named - files == set(manifest["spoilt"]["missing"]) != set()
    assert files <= named
    assert manifest["surveys"]["skymapper_dr4_photometry"]["rows"] == len(detections)
    assert manifest["surveys"]["skymapper_dr4_images"]["rows"] == len(mock.exposures)
    assert manifest["objects"] == len(mock.master["object_id"]) == len(mock.truth) == manifest["truth"]["rows"]
    assert pc.sum(mock.truth["is_primary"]).as_py() == manifest["rows"] == 64
    assert set(detections["image_id"].to_pylist()) <= set(mock.exposures["image_id"].to_pylist())


def test_spoilt_files_are_those_of_the_manifest(mock):
    for name in mock.manifest["spoilt"]["truncated"]:
        with pytest.raises(InputError, match=r"truncated|inside a header"):
            read_cutouts(mock.folder / name)
    for name in mock.manifest["spoilt"]["no_zpapprox"]:
        assert "ZPAPPROX" not in fits.getheader(mock.folder / name)
    assert all(len(files) >= 2 for files in mock.manifest["spoilt"].values())


def test_stars_that_a_selection_must_not_take_are_listed(mock):
    master, odd = mock.master, mock.manifest["odd"]
    ids = master["object_id"]
    assert all(odd.values())
    assert set(ids[master["class_star"] < 0.6].tolist()) == set(odd["low_class_star"])
    assert set(ids[master["flags"] != 0].tolist()) == set(odd["flagged"])
    for object_id, band in odd["no_detections"]:
        row = np.flatnonzero(ids == object_id)[0]
        assert master[f"{band}_ngood"][row] == 0
        assert np.isnan(master[f"{band}_psf"][row])
        mine = mock.detections.filter(pc.equal(mock.detections["object_id"], object_id))
        assert band not in mine["filter"].to_pylist()


def test_cutouts_are_valid_fits_with_the_star_at_its_place(mock):
    spoilt = {name for names in mock.manifest["spoilt"].values() for name in names}
    exposures = {row["image_id"]: row for row in mock.exposures.to_pylist()}
    offsets, sizes = [], []
    for row in mock.detections.to_pylist()[::9]:
        path = mock.cutout(row["object_id"], row["image_id"], row["ccd"])
        if str(path.relative_to(mock.folder)) in spoilt:
            continue
        with fits.open(path) as hdus:
            hdus.verify("exception")
            header, image = hdus[0].header, hdus[0].data
        exposure = exposures[row["image_id"]]
        assert image.dtype == np.dtype(">f4")
        assert header["ZPAPPROX"] == pytest.approx(exposure["zpapprox"])
        assert header["EXPTIME"] == exposure["exp_time"]
        assert header["FILTER"].strip() == row["filter"]
        assert header["QAFWHM"] == pytest.approx(exposure["fwhm"], rel=0.1)
        if (row["mag_psf"] or 0) > 15:
            assert np.nanmedian(image) == pytest.approx(exposure["background"], rel=0.2, abs=20)
        x, y = WCS(header).all_world2pix(row["ra_img"], row["decl_img"], 0)
        sizes.append(image.shape)
        if row["use_in_clipped"] and row["e_mag_psf"] < 0.01 and image.shape == (56, 56):
            offsets.append((x - 27.5, y - 27.5, *_centroid(image, exposure["background"], x, y)))
    middle, measured = np.split(np.array(offsets), 2, axis=1)
    assert np.abs(middle).max() < 6
    assert middle.std() > 0.5
    assert np.median(np.abs(measured)) < 0.3
    assert sizes.count((56, 56)) / len(sizes) > 0.9
    assert min(min(size) for size in sizes) < 56


def _centroid(image, sky, x, y) -> tuple[float, float]:
    """Mean offset of the light within 3 px from a place."""
    rows, columns = np.indices(image.shape)
    light = np.where(np.hypot(columns - x, rows - y) < 3, image - sky, 0.0)
    return float(np.nansum(light * (columns - x)) / np.nansum(light)), float(
        np.nansum(light * (rows - y)) / np.nansum(light)
    )


def test_magnitudes_of_isolated_stars_are_true_to_the_noise(mock, truth):
    alone, master, pulls = truth["n_neighbours"] == 0, mock.master, []
    assert truth["contamination"][alone].max() == 0
    for band in BANDS:
        pulls.append((master[f"{band}_psf"] - truth[f"{band}_mag"])[alone] / master[f"e_{band}_psf"][alone])
    pulls = np.concatenate(pulls)
    pulls = pulls[np.isfinite(pulls)]
    assert abs(np.median(pulls)) < 0.2
    assert 0.6 < 1.4826 * np.median(np.abs(pulls)) < 1.3
    # A cosmic ray that the pipeline did not see, or a saturated detection that it took.
    assert (np.abs(pulls) > 6).mean() < 0.02


def test_neighbours_make_stars_brighter_by_what_the_truth_says(mock, truth):
    blended = truth["contamination"] > 0.05
    assert blended.sum() > 20
    brighter = (mock.master["r_psf"] - truth["r_mag"])[blended]
    expected = -2.5 * np.log10(1 + truth["contamination"][blended])
    known = np.isfinite(brighter)
    assert np.median(np.abs(brighter - expected)[known]) < 0.02
    assert np.corrcoef(brighter[known], expected[known])[0, 1] > 0.95
    assert np.median(brighter[known]) < -0.05


def test_neighbours_are_counted_and_gaia_knows_them(mock, truth):
    master = mock.master
    distance, count = master["self_dist1"], master["cnt_self_15"]
    assert np.isnan(distance[truth["n_neighbours"] == 0]).all()
    assert ((distance < 15) == (count > 0)).all()
    assert distance[np.isfinite(distance)].min() > 1.5
    main = truth["is_primary"]
    assert 0.3 < (count[main] > 0).mean() < 0.7
    seen = np.isfinite(truth["source_id"].astype(float))
    own = master["gaia_dr3_id1"][seen] == mock.truth["source_id"].drop_null().to_numpy()
    assert own.mean() > 0.98
    assert np.nanmedian(master["gaia_dr3_dist1"]) < 0.5


def test_e_bv_is_that_of_the_maps(mock):
    maps = load_dust_maps(str(mock.folder / "dust"))
    master = mock.master
    there = ebv_sfd98(maps, master["glon"], master["glat"])
    assert master["ebmv_sfd"] == pytest.approx(there, rel=0.03)


@pytest.mark.parametrize("survey", SURVEYS)
def test_every_table_imports_by_its_schema(mock, survey):
    schema = load_survey(survey)
    (path,) = mock.files(survey)
    columns = inspect(path, schema)
    batches = list(read_batches(path, schema, columns))
    assert sum(batch.table.num_rows for batch in batches) == mock.manifest["surveys"][survey]["rows"]
    assert sum(batch.rejects.num_rows for batch in batches) == 0
    wanted = {name for name, column in schema.columns.items() if column.required}
    assert wanted <= set(columns)


def test_the_seed_makes_the_sky_and_the_workers_do_not(tmp_path):
    kept = [write_smss(tmp_path / name, rows=34, seed=9, workers=w).folder for name, w in (("a", 1), ("b", 3))]
    other = write_smss(tmp_path / "c", rows=3, seed=10).folder
    first, second = map(digests, kept)
    assert first == second
    assert digests(other)["truth/truth.parquet"] != first["truth/truth.parquet"]


def test_progress_is_told_and_bad_sizes_are_refused(tmp_path):
    told: list[tuple[int, int]] = []
    simulate_images(rows=2, seed=1, out=tmp_path / "m", workers=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 2)]
    with pytest.raises(InputError):
        simulate_images(rows=0, seed=1, out=tmp_path / "n")


def test_the_command_writes_a_mock(tmp_path):
    told = summary("simulate", "--product", "acf", "--rows", "2", "--out", tmp_path / "m", "--workers", "1")
    assert told["product"] == "acf"
    assert told["cutouts"]["files"] > 0


def test_clipped_means_leave_out_what_is_far_off():
    mag, error = np.array([15.0, 15.01, 13.0]), np.full(3, 0.01)
    assert clipped_mean(mag, error)[0] == pytest.approx(15.005)
    assert clipped_mean(mag[1:], error[1:])[0] == pytest.approx(14.005)
    weighted, sigma = clipped_mean(np.array([10.0, 10.3]), np.array([0.1, 0.2]))
    assert weighted == pytest.approx(10.06)
    assert sigma == pytest.approx(np.sqrt(1 / 125), rel=0.01)
