"""What a changed job does to a finished run: noticed, redone as far as it matters, and no further."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pyarrow.compute as pc
import pytest
from astropy.io import fits

from stellarscale.catalog.reader import open_stored, read_columns, read_pixel
from stellarscale.catalog.writer import write_pixel
from stellarscale.engine.tasks import record_of
from stellarscale.errors import RowCountError, RunError
from stellarscale.products import sages
from stellarscale.products.steps import Mapped, inherited, map_catalog, session

LEAN = ("evaluation={}", "training.sources=[]", "training.models=[{label: teff}]", "exports=[]")


@pytest.fixture(scope="module")
def small_run(small_job, mock_sky, tmp_path_factory):
    """A lean finished run with a store and a copy of the dust maps of its own."""
    folder = tmp_path_factory.mktemp("changes")
    shutil.copytree(mock_sky / "dust", folder / "dust")
    own = (f"store={folder / 'store'}", f"features.ebv.sfd98={folder / 'dust'}")

    def job(*overrides: str, out: str = "run"):
        return small_job(folder / out, *LEAN, *own, *overrides)

    sages.run(job(), cluster="threads:2")
    return folder, job


def written(path: Path) -> int:
    return path.stat().st_mtime_ns


def test_another_method_trains_no_forest_again(small_run):
    folder, job = small_run
    before = written(folder / "run" / "models" / "teff.npz")
    methods = job("training.comparators=[{name: line, kind: polynomial, options: {degree: 1}}]")
    sages.run(methods, cluster="threads:2")
    assert written(folder / "run" / "models" / "teff.npz") == before
    assert len(json.loads((folder / "run" / "comparison.json").read_text())) == 2
    sages.run(job("training.comparators=[{name: line, kind: polynomial, options: {degree: 1}}]", "seed=9"), update=True)
    assert written(folder / "run" / "models" / "teff.npz") > before
    sages.run(job(), update=True)


def test_a_part_of_the_sky_leaves_the_shared_matches_alone(small_run):
    folder, job = small_run
    matched = folder / "store" / "gaia_x_sages" / "hats.properties"
    before = written(matched)
    summary = sages.run(job(out="part"), cluster="threads:2", subset="sample:0.5")
    assert written(matched) == before
    assert 0 < summary["written"] < open_stored(folder / "run" / "catalog").num_rows
    assert (folder / "part" / "catalogs" / "gaia_x_sages").is_dir()
    properties = open_stored(folder / "part" / "catalog").properties
    assert properties.extra["stellarscale_subset"] == "sample:0.5"
    assert "--subset sample:0.5" in (folder / "part" / "report.html").read_text()


def test_fresh_starts_over_and_keeps_what_is_good_in_the_store(small_run):
    folder, job = small_run
    before = written(folder / "store" / "gaia" / "hats.properties")
    sages.run(job(), cluster="threads:2", fresh=True)
    assert written(folder / "store" / "gaia" / "hats.properties") == before


def test_another_dust_map_is_noticed(small_run):
    folder, job = small_run
    for path in (folder / "dust").glob("*.fits"):
        data, header = fits.getdata(path, header=True)
        fits.writeto(path, 2 * data, header, overwrite=True)
    with pytest.raises(RunError, match="dust"):
        sages.run(job(), cluster="threads:2")
    sages.run(job(), cluster="threads:2", update=True)
    names = {step["name"]: step for step in json.loads((folder / "run" / "steps.json").read_text())}
    assert names["match gaia x sages"].get("resumed")
    assert not names["training rows from lamost"].get("resumed")
    assert not names["predict"].get("resumed")


def test_no_source_serves_two_stars(small_run):
    folder, _ = small_run
    column = read_columns(open_stored(folder / "run" / "catalog"), ["sage_id"])["sage_id"]
    assert pc.count_distinct(column).as_py() == len(column) - column.null_count


def lossy(source: Path, out: Path, pixel):
    table = read_pixel(open_stored(source), pixel, columns=["source_id"])
    return {"rows_in": table.num_rows, **record_of(write_pixel(out, pixel, table.slice(1)))}


def test_a_step_that_loses_a_row_is_an_error(small_run, tmp_path):
    folder, _ = small_run
    source = folder / "store" / "gaia"
    stored = open_stored(source)
    schema = read_columns(stored, ["source_id"]).schema
    mapped = Mapped("lossy", source, tmp_path / "out", schema, inherited(stored.properties, "out"), {})
    with session("threads:1") as on, pytest.raises(RowCountError, match="lost or doubled"):
        map_catalog(on, partial(lossy, source, tmp_path / "out"), mapped)
