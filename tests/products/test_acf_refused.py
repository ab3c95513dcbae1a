"""Jobs of the product acf that are refused before any work: networks, files, tables, settings."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from astropy.table import Table
from reference.command_line import refused
from reference.mock_acf import acf_job, acf_mock

from stellarscale.errors import ConfigError, InputError, ModelError, SchemaError, StellarscaleError
from stellarscale.products import acf

pytestmark = pytest.mark.usefixtures("acf_one_core")


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
def test_networks_that_do_not_fit_the_job_are_refused(acf_run, tmp_path, setting, parts):
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *acf_run.given, setting))
    for part in parts:
        assert part in told


def cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def one_bit_less(data: bytes) -> bytes:
    return data[:-1]


def not_a_number(data: bytes) -> bytes:
    return data[:-4] + b"\xff" * 4


@pytest.mark.parametrize("record", [True, False])
def test_a_network_of_weights_that_are_no_numbers_is_refused(acf_run, tmp_path, record):
    models = tmp_path / "models"
    shutil.copytree(acf_run.out / "models", models, ignore=shutil.ignore_patterns(".stellarscale"))
    path = models / "joint.safetensors"
    path.write_bytes(not_a_number(path.read_bytes()))
    if not record:
        path.with_suffix(".json").unlink()
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *acf_run.given, f"pretrained={models}"))
    for part in (str(path), "altered", "sha256" if record else "not finite"):
        assert part in told


@pytest.mark.parametrize("damage", [cut_short, one_bit_less, lambda data: b"", lambda data: b"\x80\x04\x95pickle" * 50])
def test_a_damaged_network_is_refused(acf_run, tmp_path, damage: Callable[[bytes], bytes]):
    models = tmp_path / "models"
    shutil.copytree(acf_run.out / "models", models, ignore=shutil.ignore_patterns(".stellarscale"))
    path = models / "joint.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    told = refused_plan(ModelError, acf_job(tmp_path / "run", *acf_run.given, f"pretrained={models}"))
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
