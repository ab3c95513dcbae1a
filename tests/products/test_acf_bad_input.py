"""Input that the product acf cannot use: told after the match, or flagged stars with their counts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from reference.mock_acf import acf_job, acf_mock, column, steps_of

from stellarscale.errors import ConfigError, InputError, SchemaError, StellarscaleError
from stellarscale.flags import Flag
from stellarscale.products import acf

ON = "threads:2"
pytestmark = pytest.mark.usefixtures("acf_one_core")


# ---- after the match, before stamps and networks


@pytest.mark.parametrize(
    ("setting", "error", "parts"),
    [
        ("selection={cuts: [{name: b, columns: [glatt], min: 10}]}", SchemaError, ("glatt", "did you mean 'glat'")),
        ("selection={strata: {by: {g_mag-y_mag: [1]}}}", SchemaError, ("y_mag", "strata")),
        ("selection={strata: {by: {g_mag: [12, 11]}}}", ConfigError, ("strata",)),
        ("labels.cuts=[{name: snr, columns: [galah_sn], min: 10}]", SchemaError, ("galah_sn", "galah_snr")),
        ("labels.labels.teff.column=galah_tef", SchemaError, ("galah_tef",)),
        ("labels.labels.teff.error=galah_e_teff", SchemaError, ("galah_e_teff",)),
        ("stamps.reddening.column=ebmv", SchemaError, ("ebmv",)),
        ("stamps.object_id=id", SchemaError, ("id",)),
        ("parallax=gaia_plx", SchemaError, ("gaia_plx",)),
        ("output.columns={object_id: object_id, l: glon}", InputError, ("position", "ra, dec")),
        ("output.columns={ra: ra, dec: dec, mass: mass}", SchemaError, ("mass",)),
        ("output.columns={ra: ra, dec: dec, teff: gaia_parallax}", SchemaError, ("teff",)),
        ("errors.noise=[g_mag_error]", SchemaError, ("g_mag_error",)),
        ("magnitude=gmag", SchemaError, ("gmag",)),
        ("stamps.columns.band=filter", SchemaError, ("filter", "detections")),
        ("stamps.use=[{name: c, columns: [clipped], equals: 1}]", SchemaError, ("clipped",)),
        ("stamps.image_columns.zero_point=zp", SchemaError, ("zp", "images")),
    ],
)
def test_columns_that_there_are_not_are_told_before_stamps_are_made(acf_run, tmp_path, setting, error, parts):
    extra = ("truth=null", "evaluation.external=[]", "selection.relaxed=[]", "selection.quality=high")
    settings = [each for each in extra if not (setting.startswith("selection") and each.startswith("selection"))]
    with pytest.raises(error) as told:
        acf.run(acf_job(tmp_path / "run", acf_run.store, *settings, setting), cluster=ON)
    for part in parts:
        assert part in str(told.value)
    assert not list((tmp_path / "run").rglob("stamps*"))


def test_a_path_that_names_something_else_is_told_before_stamps_are_made(acf_run, tmp_path):
    files = f"{acf_mock().folder}/cutouts/{{star}}.fits"
    with pytest.raises(ConfigError, match="star"):
        acf.run(acf_job(tmp_path / "run", acf_run.store, f"stamps.files={files}"), cluster=ON)
    assert not list((tmp_path / "run").rglob("Npix*stamp*"))


def test_files_that_are_named_otherwise_are_told_before_the_training(acf_run, tmp_path):
    files = f"{acf_mock().folder}/cutouts/{{object_id}}-{{image_id}}-{{ccd}}.fits"
    with pytest.raises(InputError, match="no star has a stamp") as told:
        acf.run(acf_job(tmp_path / "run", acf_run.store, f"stamps.files={files}"), cluster=ON)
    for part in ("no file: ", files, "stamps of labelled stars"):
        assert part in str(told.value)
    assert not (tmp_path / "run" / "models").exists()


def test_a_band_that_no_detection_has_is_told_before_the_training(acf_run, tmp_path, caplog):
    bands = "{u: 5, v: 5, g: 5, r: 5, i: 5, z: 5, y: 5}"
    job = acf_job(
        tmp_path / "run", acf_run.store, "stamps.bands=[u, v, g, r, i, z, y]", f"stamps.softening={bands}",
        f"stamps.extinction={bands}",
    )  # fmt: skip
    with pytest.raises(StellarscaleError, match="too few stars") as told:
        acf.run(job, cluster=ON)
    assert "incomplete bands" in str(told.value)
    assert "has a detection in the band y" in caplog.text


def test_labels_of_another_sky_are_told(acf_run, tmp_path):
    mock = acf_mock()
    path = tmp_path / "galah.fits"
    shutil.copy(mock.files("galah_dr3")[0], path)
    with fits.open(path, mode="update") as hdus:
        names = {name.lower(): name for name in hdus[1].columns.names}
        dec = hdus[1].data[names["dec_dr2" if "dec_dr2" in names else "dec"]]
        dec[:] = np.where(dec > 0, dec - 45, dec + 45)
    catalogs = {
        name: {"path": str(acf_run.out / "catalogs" / name)} for name in acf_run.job.used_catalogs if name != "galah"
    }
    catalogs["galah"] = {**acf_run.job.catalogs["galah"].model_dump(mode="json"), "files": [str(path)]}
    job = acf_job(tmp_path / "run", f"catalogs={json.dumps(catalogs)}", "truth=null")
    with pytest.raises(InputError, match="no star has a partner in the label catalogue") as told:
        acf.run(job, cluster=ON)
    assert "different parts of the sky" in str(told.value)


# ---- flagged stars, counted in the reports


@pytest.fixture(scope="module")
def damaged(acf_run, tmp_path_factory):
    """A run by given networks on files of which some are damaged, each star in another way."""
    root = tmp_path_factory.mktemp("damaged")
    mock, data = acf_mock(), root / "data"
    shutil.copytree(mock.folder, data, copy_function=lambda source, target: Path(target).symlink_to(source))
    stars = victims(acf_run)
    detections = pd.read_csv(mock.files("skymapper_dr4_photometry")[0], dtype=str, keep_default_na=False)
    exposures = pd.read_csv(mock.files("skymapper_dr4_images")[0], dtype=str, keep_default_na=False)
    gone = (detections["object_id"] == str(stars["no band"])) & (detections["filter"] == "v")
    write_csv(detections[~gone], data / "smss" / "dr4_photometry.csv.gz")
    for name, value in (("no zero-point", ""), ("zero-point 0", "0"), ("zero-point 0 in the table", "0")):
        of_star = detections[(detections["object_id"] == str(stars[name])) & (detections["filter"] == "i")]
        exposures.loc[exposures["image_id"].isin(of_star["image_id"]), "zpapprox"] = value
    write_csv(exposures, data / "smss" / "dr4_images.csv")
    for name, change in DAMAGE.items():
        for path in files_of(data, detections, stars[name], "i"):
            damage_file(path, change)
    job = acf_job(
        root / "run", f"pretrained={acf_run.out / 'models'}", "comparisons=null", "evaluation.external=[]", data=data
    )
    done = acf.run(job, cluster=ON)
    names = ["object_id", "teff", "teff_err", "quality_flags"]
    table = {row["object_id"]: row for row in column(root / "run" / "catalog", *names).to_pylist()}
    return root / "run", done, {name: table[star] for name, star in stars.items()}


def victims(acf_run) -> dict[str, int]:
    """Stars with whole stamps, far from each other: damage to an exposure of one leaves the others whole."""
    rows = column(acf_run.out / "catalog", "object_id", "quality_flags", "sample_quality").to_pylist()
    faults = ~int(Flag.EXTRAPOLATED)  # a star that is only fainter than the training stars will do
    good = [row["object_id"] for row in rows if not row["quality_flags"] & faults and row["sample_quality"] == "high"]
    names = ("no band", "zero-point 0 in the table", *DAMAGE)
    chosen = [good[place] for place in np.linspace(0, len(good) - 1, len(names)).astype(int)]
    return dict(zip(names, chosen, strict=True))


def elsewhere(hdu) -> None:
    hdu.header["CRVAL2"] -= 1.0


def all_nan(hdu) -> None:
    hdu.data[:] = np.nan


def no_zero_point(hdu) -> None:
    hdu.header.remove("ZPAPPROX", ignore_missing=True)


def zero_point_of_nothing(hdu) -> None:
    hdu.header["ZPAPPROX"] = -99.0


def all_zero(hdu) -> None:
    hdu.data[:] = 0


def saturated(hdu) -> None:
    middle = hdu.data.shape[0] // 2
    hdu.data[middle - 1 : middle + 2, middle - 1 : middle + 2] = 65000.0


def smaller(hdu) -> None:
    hdu.data = hdu.data[20:36, 20:36]
    hdu.header["CRPIX1"] -= 20
    hdu.header["CRPIX2"] -= 20


DAMAGE = {
    "no zero-point": no_zero_point,
    "zero-point 0": zero_point_of_nothing,
    "elsewhere": elsewhere,
    "all NaN": all_nan,
    "all zero": all_zero,
    "saturated": saturated,
    "smaller": smaller,
    "truncated": None,
}


REASONS = (
    "no zero-point",
    "does not cover the star",
    "no finite pixel",
    "constant image",
    "covers too little of the stamp",
    "unreadable file",
)


def damage_file(path: Path, change: Callable | None) -> None:
    with fits.open(path) as hdus:
        hdu = fits.PrimaryHDU(hdus[0].data.copy(), hdus[0].header)
    path.unlink()  # a link to the file of the mock
    if change is None:
        path.write_bytes(b"SIMPLE  =                    T" + b" " * 2000)
        return
    change(hdu)
    hdu.writeto(path)


def files_of(data: Path, detections: pd.DataFrame, star: int, band: str) -> Iterable[Path]:
    chosen = detections[(detections["object_id"] == str(star)) & (detections["filter"] == band)]
    for row in chosen.itertuples():
        path = data / "cutouts" / f"{star % 1000:03d}" / str(star) / f"{row.image_id}-{row.ccd}.fits"
        if path.exists():
            yield path


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    path.unlink()
    frame.to_csv(path, index=False)


@pytest.mark.parametrize(
    "name", ["no band", "no zero-point", "zero-point 0", "elsewhere", "all NaN", "all zero", "truncated"]
)
def test_a_star_without_a_band_has_no_parameters_and_a_flag(damaged, name):
    row = damaged[2][name]
    assert row["quality_flags"] & Flag.INCOMPLETE_BANDS
    assert (row["teff"], row["teff_err"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "reason", "detail"),
    [
        ("no zero-point", "no zero-point", None),
        ("zero-point 0", "no zero-point", "0 in the tables, -99 in the header; needed: 10 to 40"),
        ("elsewhere", "does not cover the star", None),
        ("all NaN", "no finite pixel", None),
        ("all zero", "constant image", "every pixel is 0"),
        ("smaller", "covers too little of the stamp", "covers 44 % of the stamp"),
    ],
)
def test_every_detection_of_a_damaged_band_has_its_reason(damaged, name, reason, detail):
    rejects = pa.concat_tables([pq.read_table(path) for path in (damaged[0] / "catalogs/stamps_rejects").iterdir()])
    star = damaged[2][name]["object_id"]
    rows = [row for row in rejects.to_pylist() if (row["object_id"], row["band"]) == (star, "i")]
    found = {(row["reason"], row["detail"]) for row in rows if not row["reason"].startswith("cut ")}
    assert found == {(reason, detail)}


def test_a_zero_point_of_the_table_that_cannot_be_gives_way_to_the_header_s(acf_run, damaged):
    out, _, stars = damaged
    assert steps_of(out)["stamps"]["other_zero_points"] > 0
    star = stars["zero-point 0 in the table"]
    before = column(acf_run.out / "catalog", "object_id", "teff").to_pylist()
    assert {"object_id": star["object_id"], "teff": star["teff"]} in before
    assert star["teff"] is not None


def test_a_small_stamp_has_missing_pixels(damaged):
    row = damaged[2]["smaller"]
    assert row["quality_flags"] & Flag.MISSING_PIXELS
    assert row["quality_flags"] & Flag.INCOMPLETE_BANDS, "more than a tenth of the band is not covered"
    assert row["teff"] is None


def test_a_star_that_is_saturated_in_every_detection_of_a_band_has_no_parameters(damaged):
    row = damaged[2]["saturated"]
    assert row["quality_flags"] & Flag.SATURATED
    assert row["quality_flags"] & Flag.INCOMPLETE_BANDS, "the flux of the star's own pixel is lost"
    assert row["teff"] is None


def test_every_damage_is_counted_in_the_reports(acf_run, damaged):
    out, done, _ = damaged
    steps, report = steps_of(out), json.loads((out / "report.json").read_text())
    assert done["written"] == steps["predict"]["rows_in"] == acf_run.done["written"]
    unused = steps["stamps"]["unused"]
    before = acf_run.steps["stamps"]["unused"]
    for reason in REASONS:
        assert unused[reason] > before.get(reason, 0), reason
    flags = column(out / "catalog", "quality_flags")["quality_flags"].to_numpy()
    counted = report["flag_counts"]
    for flag in (Flag.INCOMPLETE_BANDS, Flag.MISSING_PIXELS, Flag.SATURATED):
        assert counted[flag.name] == ((flags & int(flag)) != 0).sum() > 0
    page = (out / "report.html").read_text()
    for reason in REASONS:
        assert reason in page, "detections that are in no stamp are told by reason"
