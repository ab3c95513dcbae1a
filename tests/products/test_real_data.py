"""Real survey files against truths measured with plain public tools; skipped where the data are not."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import MatchStep, load_job
from stellarscale.products import sages
from stellarscale.products.importing import import_survey
from stellarscale.products.matching import match_catalogs
from stellarscale.products.steps import session


@pytest.fixture(scope="module")
def on():
    with session("threads:2") as session_:
        yield session_


@pytest.fixture(scope="module")
def ngc188(on, shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp("ngc188")
    folder = shared_data / "crossmatch"
    gaia = import_survey(on, [folder / "ngc188_gaia_results.fits"], "gaia_dr3", root / "gaia")
    twomass = import_survey(on, [folder / "ngc188_2MASS_results.ecsv"], "twomass_psc", root / "twomass")
    assert (gaia["written"], twomass["written"]) == (4876, 5014)
    return root


@pytest.mark.parametrize(
    "epoch, pairs", [(None, (4163, 4125, 4164)), (1999.8, (4178, 4140, 4179)), ("rows", (4178, 4140, 4179))]
)
def test_ngc188_gives_the_known_pairs(on, ngc188, tmp_path, epoch, pairs):
    for keep, expected in zip(("nearest", "mutual", "all"), pairs, strict=True):
        step = MatchStep(catalog="twomass", radius_arcsec=1.0, keep=keep, epoch=epoch)
        done = match_catalogs(on, ngc188 / "gaia", ngc188 / "twomass", tmp_path / keep, step=step)
        assert done["matched"] == done["written"] == expected
        if keep == "mutual":
            assert round(done["median_separation_arcsec"], 4) == (0.1619 if epoch is None else 0.1237)


def test_ngc188_the_other_way_round(on, ngc188, tmp_path):
    step = MatchStep(catalog="gaia", radius_arcsec=1.0)
    assert match_catalogs(on, ngc188 / "twomass", ngc188 / "gaia", tmp_path / "m", step=step)["matched"] == 4126


@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # LSDB's own
def test_lsdb_finds_the_same_pairs(on, ngc188, tmp_path):
    lsdb = pytest.importorskip("lsdb", reason="LSDB is not installed")
    step = MatchStep(catalog="twomass", radius_arcsec=1.0)
    match_catalogs(on, ngc188 / "gaia", ngc188 / "twomass", tmp_path / "ours", step=step)
    ours = read_columns(open_stored(tmp_path / "ours"), ["source_id", "twomass_designation", "separation_arcsec"])
    left, right = lsdb.open_catalog(ngc188 / "gaia"), lsdb.open_catalog(ngc188 / "twomass")
    theirs = left.crossmatch(
        right,
        radius_arcsec=1.0,
        n_neighbors=1,
        require_right_margin=False,
        suffixes=("", "_r"),
        suffix_method="all_columns",
    ).compute()
    name = next(column for column in theirs.columns if column.startswith("designation"))
    pairs = dict(zip(theirs["source_id"].tolist(), theirs[name].tolist(), strict=True))
    assert dict(zip(ours["source_id"].to_pylist(), ours["twomass_designation"].to_pylist(), strict=True)) == pairs
    distance = dict(zip(theirs["source_id"].tolist(), theirs["_dist_arcsec"].tolist(), strict=True))
    expected = np.array([distance[i] for i in ours["source_id"].to_pylist()])
    assert np.abs(ours["separation_arcsec"].to_numpy() - expected).max() < 1e-6


# Robust sigma measured once with plain scikit-learn on another split of the same tables.
KNOWN = {
    "apokasc": {"teff": 65, "logg": 0.168, "m_h": 0.163},
    "segue": {"fe_h": 0.211},
    "lamost_pilot": {"teff": 157, "fe_h": 0.253},
}


@pytest.mark.parametrize("name", KNOWN)
def test_forests_on_real_tables(name, shared_data, tmp_path):
    job = load_job(name, [f"data={shared_data / 'forest'}", f"out={tmp_path / name}"])
    summary = sages.run(job, cluster="threads:2")
    assert summary["written"] == summary["rows_in"]
    models = {model["model"]: model for model in summary["models"]}
    for label, sigma in KNOWN[name].items():
        found = models[label]["held_out_sigma"]
        assert found == pytest.approx(models[label]["sklearn_sigma"], rel=0.02)
        # A few hundred test stars scatter by some per cent from split to split.
        assert found == pytest.approx(sigma, rel=0.2)
        assert label in (tmp_path / name / "report.html").read_text()
    assert open_stored(tmp_path / name / "catalog").num_rows == summary["written"]
