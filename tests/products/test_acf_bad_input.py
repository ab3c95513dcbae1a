"""Input that the product acf cannot use: a clear error before the long steps, or flagged stars with their counts."""

from __future__ import annotations

import importlib.util
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
from astropy.table import Table
from reference.command_line import refused
from reference.mock_acf import acf_job, acf_mock, column, finished_run, one_core, steps_of

from stellarscale.errors import ConfigError, InputError, ModelError, SchemaError, StellarscaleError
from stellarscale.flags import Flag
from stellarscale.products import acf

ON = "threads:2"


@pytest.fixture(scope="module", autouse=True)
def _one_core():
    with one_core():
        yield


@pytest.fixture(scope="module")
def run():
    return finished_run()


def refused_plan(error: type[StellarscaleError], job) -> str:
    with pytest.raises(error) as told:
        acf.plan(job)
    assert not Path(job.out).exists(), "nothing is done before"
    return str(told.value)


# ---- before any work: networks of another run


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("stamps.size_px=32", ("size_px 32", "size_px 24")),
        ("stamps.bands=[g, r, i]", ("bands ('g', 'r', 'i')", "'u'")),
        ("stamps.softening={u: 5, v: 5, g: 5, r: 5, i: 5, z: 7}", ("softening", "7.0")),
        ("stamps.zero_point=20", ("zero_point 20", "zero_point 25")),
        ("stamps.reddening=null", ("dereddened False", "dereddened True")),
        ("labels.labels.teff.unit=1000 K", ("teff", "1000 K")),
        ("labels.labels={teff: {column: galah_teff, unit: K}}", ("logg", "teff")),
        ("network.head.hidden=[32, 8]", ("another shape", "head")),
        ("network.backbone.mlp_ratio=4", ("another shape", "backbone")),
        ("network.parallax=false", ("another shape", "parallax True", "parallax False")),
        ("network.joint=false", ("teff.safetensors",)),
        ("pretrained=nowhere", ("joint.safetensors", "nowhere")),
    ],
)
def test_networks_that_do_not_fit_the_job_are_refused(run, tmp_path, setting, parts):
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *run.given, setting))
    for part in parts:
        assert part in told


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def one_bit_less(data: bytes) -> bytes:
    return data[:-1]


def not_a_number(data: bytes) -> bytes:
    return data[:-4] + b"\xff" * 4


@pytest.mark.parametrize("record", [True, False])
def test_a_network_of_weights_that_are_no_numbers_is_refused(run, tmp_path, record):
    models = tmp_path / "models"
    shutil.copytree(run.out / "models", models, ignore=shutil.ignore_patterns(".stellarscale"))
    path = models / "joint.safetensors"
    path.write_bytes(not_a_number(path.read_bytes()))
    if not record:
        path.with_suffix(".json").unlink()
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *run.given, f"pretrained={models}"))
    for part in (str(path), "altered", "sha256" if record else "not finite"):
        assert part in told


@pytest.mark.parametrize("damage", [cut_short, one_bit_less, lambda data: b"", lambda data: b"\x80\x04\x95pickle" * 50])
def test_a_damaged_network_is_refused(run, tmp_path, damage: Callable[[bytes], bytes]):
    models = tmp_path / "models"
    shutil.copytree(run.out / "models", models, ignore=shutil.ignore_patterns(".stellarscale"))
    path = models / "joint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *run.given, f"pretrained={models}"))
    assert str(path) in told


# ---- before any work: files, packages, settings


def test_cut_outs_that_are_not_there_are_told_before_any_work(tmp_path):
    job = acf_job(
        tmp_path / "run", f"stamps.files={tmp_path}/cutouts/{{shard}}/{{object_id}}/{{image_id}}-{{ccd}}.fits"
    )
    told = refused_plan(InputError, job)
    for part in ("cut-outs", "stamps.files", str(tmp_path / "cutouts"), "stellarscale cutouts"):
        assert part in told
    (tmp_path / "cutouts").mkdir()
    assert "empty" in refused_plan(InputError, job)
    (tmp_path / "cutouts" / "000").mkdir()
    acf.plan(job)


def copied_tables(to: Path) -> Path:
    """The mock, its tables copied so that they can be spoilt, and its cut-outs where they are."""
    mock = acf_mock().folder
    for item in mock.iterdir():
        if item.name == "cutouts":
            (to / item.name).symlink_to(item)
        elif item.is_dir():
            shutil.copytree(item, to / item.name)
    return to


def renamed_column(path: Path, old: str, new: str) -> None:
    table = Table.read(path)
    table.rename_column(old, new)
    table.write(path, overwrite=True)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("g_psf", "gmag_psf", ("g_mag (one of: g_psf", "output.columns.g_mag", "'gmag_psf' is near 'g_psf'")),
        ("class_star", "stellarity", ("class_star (one of: class_star", "selection.cuts.class_star")),
        ("object_id", "number", ("object_id", "requires", "number")),
    ],
)
def test_a_column_that_is_not_in_a_file_is_told_before_any_work(tmp_path, old, new, parts):
    data = copied_tables(tmp_path)
    master = data / "smss" / "dr4_master.fits"
    renamed_column(master, old, new)
    told = refused_plan(SchemaError, acf_job(tmp_path / "run", data=data))
    for part in (str(master), *parts):
        assert part in told


def test_a_column_that_is_not_imported_is_told_before_any_work(tmp_path):
    told = refused_plan(SchemaError, acf_job(tmp_path / "run", "catalogs.gaia.columns=[parallax_error, ruwe]"))
    for part in (
        "gaia",
        "parallax (one of: parallax",
        "which output.columns.parallax names",
        "not among catalogs.gaia.columns",
    ):
        assert part in told


def test_a_damaged_table_is_told_before_any_work(tmp_path):
    data = copied_tables(tmp_path)
    master = data / "smss" / "dr4_master.fits"
    master.write_bytes(master.read_bytes()[:1000])
    assert str(master) in refused_plan(InputError, acf_job(tmp_path / "run", data=data))


def test_the_command_line_says_so_in_one_paragraph(tmp_path):
    told = refused(
        "run", "acf_mock", "--dry-run", "--set", f"data={acf_mock().folder}", "--set", f"out={tmp_path}/run",
        "--set", f"stamps.files={tmp_path}/no/{{object_id}}",
    )  # fmt: skip
    assert str(tmp_path / "no") in told


def test_torch_is_asked_for_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr("stellarscale.models.network.importlib.util.find_spec", lambda name: None)
    told = refused_plan(ModelError, acf_job(tmp_path / "run"))
    for part in ("torch", "not installed", "stellarscale[images]"):
        assert part in told


def test_packages_of_the_comparisons_are_asked_for_before_any_work(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    without = "stellarscale.models.bayes_search.importlib.util.find_spec"
    monkeypatch.setattr(without, lambda name: None if name == "optuna" else find(name))
    told = refused_plan(ModelError, acf_job(tmp_path / "run"))
    for part in ("optuna", "not installed", "stellarscale[comparisons]"):
        assert part in told
    acf.plan(acf_job(tmp_path / "run", "comparisons=null"))


@pytest.mark.parametrize(
    ("setting", "error", "part"),
    [
        ("catalogs.galah.files=[nowhere/*.fits]", InputError, "catalogs.galah"),
        ("truth.file=nowhere.parquet", InputError, "nowhere.parquet"),
        ("labels.cuts=[{name: flags, columns: [galah_snr], above: 30}]", ConfigError, "flags"),
        ("network.backbone.depths=[1, 1, 1, 1, 1, 1]", ConfigError, "depths"),
        ("catalogs.gaia.columns=[parallax, paralax_error]", ConfigError, "paralax_error"),
        ("comparisons.magnitudes.y=y_mag", ConfigError, "bands without extinction"),
    ],
)
def test_what_can_be_seen_before_is_told_before(tmp_path, setting, error, part):
    if "depths" in setting:
        with pytest.raises(error, match=part):
            acf_job(tmp_path / "run", setting)
        return
    assert part in refused_plan(error, acf_job(tmp_path / "run", setting))


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
def test_columns_that_there_are_not_are_told_before_stamps_are_made(run, tmp_path, setting, error, parts):
    extra = ("truth=null", "evaluation.external=[]", "selection.relaxed=[]", "selection.quality=high")
    settings = [each for each in extra if not (setting.startswith("selection") and each.startswith("selection"))]
    with pytest.raises(error) as told:
        acf.run(acf_job(tmp_path / "run", run.store, *settings, setting), cluster=ON)
    for part in parts:
        assert part in str(told.value)
    assert not list((tmp_path / "run").rglob("stamps*"))


def test_a_path_that_names_something_else_is_told_before_stamps_are_made(run, tmp_path):
    files = f"{acf_mock().folder}/cutouts/{{star}}.fits"
    with pytest.raises(ConfigError, match="star"):
        acf.run(acf_job(tmp_path / "run", run.store, f"stamps.files={files}"), cluster=ON)
    assert not list((tmp_path / "run").rglob("Npix*stamp*"))


def test_files_that_are_named_otherwise_are_told_before_the_training(run, tmp_path):
    files = f"{acf_mock().folder}/cutouts/{{object_id}}-{{image_id}}-{{ccd}}.fits"
    with pytest.raises(InputError, match="no star has a stamp") as told:
        acf.run(acf_job(tmp_path / "run", run.store, f"stamps.files={files}"), cluster=ON)
    for part in ("no file: ", files, "stamps of labelled stars"):
        assert part in str(told.value)
    assert not (tmp_path / "run" / "models").exists()


def test_a_band_that_no_detection_has_is_told_before_the_training(run, tmp_path, caplog):
    bands = "{u: 5, v: 5, g: 5, r: 5, i: 5, z: 5, y: 5}"
    job = acf_job(
        tmp_path / "run", run.store, "stamps.bands=[u, v, g, r, i, z, y]", f"stamps.softening={bands}",
        f"stamps.extinction={bands}",
    )  # fmt: skip
    with pytest.raises(StellarscaleError, match="too few stars") as told:
        acf.run(job, cluster=ON)
    assert "incomplete bands" in str(told.value)
    assert "has a detection in the band y" in caplog.text


def test_labels_of_another_sky_are_told(run, tmp_path):
    mock = acf_mock()
    path = tmp_path / "galah.fits"
    shutil.copy(mock.files("galah_dr3")[0], path)
    with fits.open(path, mode="update") as hdus:
        names = {name.lower(): name for name in hdus[1].columns.names}
        dec = hdus[1].data[names["dec_dr2" if "dec_dr2" in names else "dec"]]
        dec[:] = np.where(dec > 0, dec - 45, dec + 45)
    catalogs = {name: {"path": str(run.out / "catalogs" / name)} for name in run.job.used_catalogs if name != "galah"}
    catalogs["galah"] = {**run.job.catalogs["galah"].model_dump(mode="json"), "files": [str(path)]}
    job = acf_job(tmp_path / "run", f"catalogs={json.dumps(catalogs)}", "truth=null")
    with pytest.raises(InputError, match="no star has a partner in the label catalogue") as told:
        acf.run(job, cluster=ON)
    assert "different parts of the sky" in str(told.value)


# ---- flagged stars, counted in the reports


@pytest.fixture(scope="module")
def damaged(run, tmp_path_factory):
    """A run by given networks on files of which some are damaged, each star in another way."""
    root = tmp_path_factory.mktemp("damaged")
    mock, data = acf_mock(), root / "data"
    shutil.copytree(mock.folder, data, copy_function=lambda source, target: Path(target).symlink_to(source))
    stars = victims(run)
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
        root / "run", f"pretrained={run.out / 'models'}", "comparisons=null", "evaluation.external=[]", data=data
    )
    done = acf.run(job, cluster=ON)
    names = ["object_id", "teff", "teff_err", "quality_flags"]
    table = {row["object_id"]: row for row in column(root / "run" / "catalog", *names).to_pylist()}
    return root / "run", done, {name: table[star] for name, star in stars.items()}


def victims(run) -> dict[str, int]:
    """Stars with whole stamps, far from each other: damage to an exposure of one leaves the others whole."""
    rows = column(run.out / "catalog", "object_id", "quality_flags", "sample_quality").to_pylist()
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


def test_a_zero_point_of_the_table_that_cannot_be_gives_way_to_the_header_s(run, damaged):
    out, _, stars = damaged
    assert steps_of(out)["stamps"]["other_zero_points"] > 0
    star = stars["zero-point 0 in the table"]
    before = column(run.out / "catalog", "object_id", "teff").to_pylist()
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


def test_every_damage_is_counted_in_the_reports(run, damaged):
    out, done, _ = damaged
    steps, report = steps_of(out), json.loads((out / "report.json").read_text())
    assert done["written"] == steps["predict"]["rows_in"] == run.done["written"]
    unused = steps["stamps"]["unused"]
    before = run.steps["stamps"]["unused"]
    for reason in REASONS:
        assert unused[reason] > before.get(reason, 0), reason
    flags = column(out / "catalog", "quality_flags")["quality_flags"].to_numpy()
    counted = report["flag_counts"]
    for flag in (Flag.INCOMPLETE_BANDS, Flag.MISSING_PIXELS, Flag.SATURATED):
        assert counted[flag.name] == ((flags & int(flag)) != 0).sum() > 0
    page = (out / "report.html").read_text()
    for reason in REASONS:
        assert reason in page, "detections that are in no stamp are told by reason"
