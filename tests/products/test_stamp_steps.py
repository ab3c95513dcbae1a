"""Stamps of a catalogue as a step, and stamps cut out of a real image."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from reference.fake_cutouts import SCALE_DEG, write_survey
from reference.mock_catalog import write_mock

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.engine.ledger import Ledger
from stellarscale.errors import RunError, SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.stamp_stack import unstretch
from stellarscale.products.stamp_steps import detection_counts, make_stamp_catalog, rejects_of, stamps_of_run
from stellarscale.products.steps import session
from stellarscale.settings.acf import AcfJob
from stellarscale.settings.stamps import StampSettings
from stellarscale.stamp_columns import format_of, stamps_of

SCENE = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "images" / "hsc_cosmos.npz"


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    return write_survey(tmp_path_factory.mktemp("survey"))


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as made:
        yield made


def job_of(files: str, out: Path, **changes) -> AcfJob:
    names = ("master", "detections", "images", "galah")
    stamps = {
        "images": "images",
        "files": files,
        "bands": ("g", "r"),
        "size_px": 16,
        "softening": {"g": 5.0, "r": 5.0},
        "use": [{"name": "clipped", "columns": ["use"], "equals": 1}],
        "reddening": {"column": "ebv"},
    }
    return AcfJob.model_validate(
        {
            "product": "acf",
            "name": "test",
            "out": str(out),
            "catalogs": {name: {"path": f"/nowhere/{name}"} for name in names},
            "match": {"primary": "master"},
            "stamps": stamps | changes,
            "labels": {
                "match": {"catalog": "galah", "radius_arcsec": 1.0},
                "labels": {"teff": {"column": "t", "unit": "K"}},
            },
            "output": {"columns": {"object_id": "object_id"}},
        }
    )


def run(on, survey, out: Path, **changes):
    steps: list = []
    job = job_of(survey.files, out.parent, **changes)
    catalogs = {"detections": survey.detections, "images": survey.images}
    assert make_stamp_catalog(on, job, survey.stars, catalogs, out, name="stamps", steps=steps) == out
    return steps[0]


def test_every_star_is_in_the_catalogue(on, survey, tmp_path):
    out = tmp_path / "stamps"
    step = run(on, survey, out)
    n = len(survey.ids)
    assert (step["name"], step["rows_in"], step["written"], step["rejected"]) == ("stamps", n, n, {})
    assert (step["used"], step["unused"]) == (4 * n, {})
    counts = {"used": 4 * n, "full_wcs": step["full_wcs"], "other_zero_points": 0, "unused": {}}
    assert detection_counts(out) == counts
    stored = open_stored(out)
    assert verify(out).problems == ()
    assert stored.properties.name == "stamps"
    table = read_columns(stored, ["object_id", "stamp", "n_detections_g", "quality_flags"])
    assert sorted(table["object_id"].to_pylist()) == sorted(survey.ids.tolist())
    assert set(table["quality_flags"].to_pylist()) == {0}
    assert format_of(stored.schema).dereddened
    flux = unstretch(stamps_of(table).astype(float), (5.0, 5.0)).sum(axis=(2, 3))
    expected = dict(zip(survey.ids.tolist(), survey.flux, strict=True))
    dust = 10 ** (0.4 * 0.1 * np.array([2.986, 2.288]))
    wanted = np.array([expected[number] for number in table["object_id"].to_pylist()])[:, None] * dust
    assert np.allclose(flux / wanted, 1, atol=0.01)
    assert len(list(rejects_of(out).glob("*.parquet"))) == len(open_stored(survey.stars).pixels)


def test_it_is_done_once_and_refused_when_it_would_be_another(on, survey, tmp_path):
    out = tmp_path / "stamps"
    first = run(on, survey, out)
    again = run(on, survey, out)
    assert again["resumed"]
    assert (again["used"], again["unused"]) == (first["used"], first["unused"])
    with pytest.raises(RunError, match=r"size_px was 16, now 18"):
        run(on, survey, out, size_px=18)


def test_stars_and_workers_do_not_change_the_bytes(on, survey, tmp_path):
    run(on, survey, tmp_path / "a" / "stamps")
    with session("threads:1") as alone:
        run(alone, survey, tmp_path / "b" / "stamps")
    one, other = (Ledger(tmp_path / name / "stamps").receipts("stamps") for name in "ab")
    assert {key: receipt["checksum"] for key, receipt in one.items()} == {
        key: receipt["checksum"] for key, receipt in other.items()
    }


def told(caplog) -> list[tuple[str, str]]:
    """What the step has said: level and text."""
    return [(each.levelname, each.getMessage()) for each in caplog.records if each.name.endswith("stamp_steps")]


def test_detections_that_fail_are_counted_by_reason(on, survey, tmp_path, caplog):
    out = tmp_path / "stamps"
    with caplog.at_level(logging.INFO):
        step = run(on, survey, out, use=[{"name": "never", "columns": ["use"], "above": 1}])
    n = len(survey.ids)
    where = rejects_of(out)
    assert told(caplog) == [("INFO", f"stamps: {4 * n} of {4 * n} detections left out: cut never {4 * n}; in {where}")]
    assert (step["written"], step["used"], step["unused"]) == (n, 0, {"cut never": 4 * n})
    rejects = pa.concat_tables([pq.read_table(path) for path in sorted(rejects_of(out).glob("*.parquet"))])
    assert sorted(set(rejects["object_id"].to_pylist())) == sorted(survey.ids.tolist())
    table = read_columns(open_stored(out), ["stamp", "quality_flags"])
    assert table["stamp"].null_count == n
    assert set(table["quality_flags"].to_pylist()) == {int(Flag.INCOMPLETE_BANDS)}
    assert verify(out).problems == ()


def test_detections_left_out_are_a_warning_where_the_job_asked_for_them(on, survey, tmp_path, caplog):
    n = len(survey.ids)
    with caplog.at_level(logging.INFO):
        step = run(on, survey, tmp_path / "whole")
        assert told(caplog) == []
        run(on, survey, tmp_path / "none", zero_points=[30, 40])
    ((level, text),) = told(caplog)
    assert level == "WARNING"
    assert f"stamps: {4 * n} of {4 * n} detections left out: no zero-point {4 * n}; in " in text
    assert step["other_zero_points"] == 0


def test_what_does_not_fit_is_told_before_any_work(on, survey, tmp_path):
    with pytest.raises(SchemaError, match="av_of_it"):
        run(on, survey, tmp_path / "out", reddening={"column": "av_of_it"})
    assert not (tmp_path / "out").exists()


def test_where_the_stamps_of_a_run_are(tmp_path):
    assert stamps_of_run(job_of("{object_id}.fits", tmp_path)) == tmp_path / "catalogs" / "stamps"


@pytest.mark.skipif(not SCENE.is_file(), reason="the shared real data are not beside the repository")
def test_stamps_cut_from_a_real_image(on, tmp_path):
    """The two brightest sources of the scene: pixels of the stamps are those of the image."""
    bands, size = ("g", "r", "i", "z", "y"), 24
    scene = np.load(SCENE)
    images = scene["images"] if "images" in scene else scene[scene.files[0]]
    assert images.shape[0] == len(bands)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.1, 2.2], [29.0, 24.0]
    wcs.wcs.cd = SCALE_DEG / 3 * np.array([[-1, 0], [0, 1]])
    for band, image in zip(bands, images, strict=True):
        header = wcs.to_header()
        header["ZPAPPROX"] = 27.0
        fits.PrimaryHDU(image.astype("f4"), header).writeto(tmp_path / f"1-{band}.fits")
    total = images.sum(axis=0)
    inner = total[size // 2 : -size // 2, size // 2 : -size // 2]
    row, column = (int(v) + size // 2 for v in np.unravel_index(inner.argmax(), inner.shape))
    ra, dec = (np.atleast_1d(v) for v in wcs.all_pix2world(column, row, 0))
    star = {"_healpix_29": pixel_of(ra, dec), "object_id": np.array([1]), "ra": ra, "dec": dec}
    write_mock(tmp_path / "stars", pa.table(star), stellarscale_id="object_id")
    many = {name: np.repeat(values, len(bands)) for name, values in star.items()}
    many |= {"image_id": np.ones(len(bands), np.int64), "ccd": np.arange(len(bands)), "band": list(bands)}
    many["sky"] = np.zeros(len(bands))
    write_mock(tmp_path / "detections", pa.table(many), stellarscale_id="object_id", stellarscale_repeated_ids="true")
    job = job_of(
        str(tmp_path / "{image_id}-{band}.fits"),
        tmp_path,
        images=None,
        bands=bands,
        size_px=size,
        softening=dict.fromkeys(bands, 0.5),
        use=[],
        reddening=None,
        dtype="float32",
        zero_point=27.0,
        columns={"background": "sky"},
    )
    assert isinstance(job.stamps, StampSettings)
    steps: list = []
    catalogs = {"detections": tmp_path / "detections"}
    out = make_stamp_catalog(on, job, tmp_path / "stars", catalogs, tmp_path / "stamps", name="stamps", steps=steps)
    assert steps[0]["used"] == len(bands)
    table = read_columns(open_stored(out), ["stamp", "quality_flags"])
    flux = unstretch(stamps_of(table)[0].astype(float), (0.5,) * len(bands))
    half = size // 2
    expected = images[:, row - half : row + half, column - half : column + half]
    assert np.allclose(flux, expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert table["quality_flags"].to_pylist() == [0]
