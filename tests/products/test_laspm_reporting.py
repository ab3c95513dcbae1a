"""The report of the product laspm: sections, numbers, example spectra, comparisons by branch."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from pydantic import ValidationError
from reference.mock_catalog import write_mock
from reference.mock_laspm import MockRun, mock_run

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import External
from stellarscale.errors import InputError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products.external import check_externals, external_evaluations, external_path
from stellarscale.products.isochrones import read_isochrones
from stellarscale.products.laspm_examples import choose_examples, combined_fit, example_spectra
from stellarscale.products.laspm_reporting import report_run
from stellarscale.report.content import ExtraSection
from stellarscale.settings.laspm import Isochrones, LaspmReport

GRID = WaveGrid.covering(6100, 7300)
SECTIONS = ["summary", "steps", "evaluation", "errors", "kiel", "by_snr", "examples", "lead", "references", "stars"]
STEP = {"name": "match", "step": "spectra", "rows_in": 600, "written": 600, "seconds": 1.0, "partitions": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> MockRun:
    root = tmp_path_factory.mktemp("laspm")
    teff = np.linspace(3100, 4100, 30)
    lines = Table(
        {"teff": np.tile(teff, 2), "logg": np.tile(5 - (teff - 3100) / 2000, 2), "m_h": np.repeat([-0.5, 0], 30)}
    )
    lines.write(root / "lines.csv")
    report = {"isochrones": {"file": str(root / "lines.csv")}, "examples": 6}
    return mock_run(root, grid=GRID, report=report)


def test_the_report_has_every_section_and_its_numbers(run):
    job = run.job.model_copy(update={"leave_one_out": True})
    (run.out / "leave_one_out").mkdir()
    lead = ExtraSection("lead", "Made elsewhere", "<p>told elsewhere</p>", (), {"n": 7})
    (run.out / "leave_one_out" / "sections.json").write_text(json.dumps([asdict(lead)]))
    done = report_run(job, run.out, [STEP])
    assert [row["n"] for row in done["evaluations"]] == [600, 600, 600]
    html, numbers = Path(done["report"]).read_text(), json.loads((run.out / "report.json").read_text())
    assert re.findall(r'<section id="(\w+)"', html) == [*SECTIONS, "sky", "flags", "reproduce"]
    assert "600 spectra" in html
    assert "told elsewhere" in html
    assert "stars observed repeatedly" in html
    assert "a star observed several times counts as often" in html
    assert "By S/N" in html
    assert "Importances" not in html
    assert "catalogue 2" in html
    assert numbers["rows"] == 600
    assert numbers["lead"] == {"n": 7}
    assert [each["label"] for each in numbers["evaluations"]] == ["teff", "logg", "m_h"]
    assert numbers["evaluations"][0]["n"] == 600
    assert abs(numbers["evaluations"][0]["bias"]) < 60
    assert {row["group"] for row in numbers["by_snr"]} == {"all", "dwarf", "giant"}
    assert numbers["references"]["n"] == 200
    assert sum(numbers["references"]["sources"].values()) == 200
    assert numbers["flag_counts"]["BAD_FIT"] == 2
    assert len(numbers["examples"]) == 6
    for name in ("kiel", "by_snr", "examples", "references", "residuals", "coverage"):
        assert json.loads((run.out / "evaluation" / f"{name}.json").read_text()) is not None


def test_stars_with_doubtful_flags_are_not_in_the_kiel_diagram(run):
    flags = read_columns(open_stored(run.out / "catalog"), ["quality_flags"])["quality_flags"].to_numpy()
    doubtful = Flag.BAD_FIT | Flag.LOW_SNR | Flag.EDGE_OF_GRID | Flag.RV_AT_LIMIT
    numbers = json.loads((run.out / "report.json").read_text())["kiel"]
    assert numbers == {"sample": 600, "good": int(((flags & int(doubtful)) == 0).sum()), "complete": numbers["good"]}


def test_fits_of_the_examples_have_the_chi_square_of_the_catalogue(run):
    stored = open_stored(run.out / "catalog")
    examples = example_spectra(run.job, stored, spectra=run.spectra, references=run.references)
    known = read_columns(stored, ["obsid", "chi2", "spectrum_id"])
    chi2 = dict(zip(known["spectrum_id"].to_pylist(), known["chi2"].to_pylist(), strict=True))
    assert [each.is_bad for each in examples] == [False] * 4 + [True] * 2
    for each in examples:
        fit = each.fit
        assert np.nansum(((fit.flux - fit.model) / fit.error) ** 2) == pytest.approx(
            chi2[each.row["spectrum"]], rel=1e-4
        )
        assert each.row["spectrum"] in fit.title
        assert sum(each.row["weights"]) == pytest.approx(1.0, abs=1e-5)
    teff = [each.row["teff"] for each in examples[:4]]
    assert teff == sorted(teff)
    assert teff[-1] - teff[0] > 400


def test_no_examples_without_an_id_or_when_none_are_wanted(run):
    stored = open_stored(run.out / "catalog")
    about = {"spectra": run.spectra, "references": run.references}
    none = run.job.model_copy(update={"report": LaspmReport(examples=0)})
    assert example_spectra(none, stored, **about) == []
    matching = run.job.matching.model_copy(update={"columns": {"ra": "ra", "dec": "dec"}})
    assert example_spectra(run.job.model_copy(update={"matching": matching}), stored, **about) == []


def test_references_that_changed_since_the_run_are_refused(run):
    other = replace(run.references, digest="0" * 64)
    with pytest.raises(InputError, match="changed"):
        example_spectra(run.job, open_stored(run.out / "catalog"), spectra=run.spectra, references=other)


def test_combined_fit_recovers_a_combination_and_needs_no_masked_pixel():
    rng = np.random.default_rng(1)
    references = rng.uniform(0.5, 1.5, (3, 200))
    x = np.linspace(0, 1, 200)
    flux = references[1] * (2 + x - 0.5 * x**2)
    ivar = np.ones(200)
    flux[50], ivar[50] = 1e6, 0.0
    model = combined_fit(flux, ivar, references, np.array([0.0, 1.0, 0.0]), 2)
    good = ivar > 0
    assert model[good] == pytest.approx(flux[good], rel=1e-10)


def test_examples_are_spread_different_and_the_same_every_time():
    rng = np.random.default_rng(9)
    n = 500
    teff, snr, chi2 = rng.uniform(3000, 4200, n), rng.uniform(5, 200, n), rng.uniform(0.8, 2, n)
    flags = np.where(rng.random(n) < 0.1, int(Flag.BAD_FIT), 0)
    teff[::7] = np.nan
    chosen = choose_examples(teff, snr, chi2, flags, 8)
    assert len(set(chosen.tolist())) == 8
    assert np.isfinite(teff[chosen]).all()
    assert (flags[chosen] != 0).tolist() == [False] * 6 + [True] * 2
    assert np.ptp(teff[chosen[:6]]) > 800
    assert np.ptp(snr[chosen[:6]]) > 100
    assert (choose_examples(teff, snr, chi2, flags, 8) == chosen).all()
    assert len(choose_examples(teff[:3], snr[:3], chi2[:3], flags[:3] * 0, 8)) == 2
    assert len(choose_examples(np.full(3, np.nan), snr[:3], chi2[:3], flags[:3], 8)) == 0


def _external(run: MockRun, shift: float, offsets) -> tuple[External, float]:
    """Compare with a catalogue that has our own temperatures, less 100 K for dwarfs."""
    external = External.model_validate(
        {"name": f"other{shift:g}", "match": {"catalog": "spectra", "radius_arcsec": 1},
         "labels": {"teff": "their_teff"}, "offsets": offsets}
    )  # fmt: skip
    names = ["obsid", "ra", "dec", "teff", "teff_err", "logg", "snr_i", "quality_flags"]
    table = read_columns(open_stored(run.out / "catalog"), ["_healpix_29", *names])
    is_dwarf = table["logg"].to_numpy() >= 3.5
    theirs = table["teff"].to_numpy() - np.where(is_dwarf, shift, 0.0)
    write_mock(
        external_path(run.job, external), table.append_column("their_teff", pa.array(theirs)), stellarscale_id="obsid"
    )
    return external, float(is_dwarf.sum())


def test_other_catalogues_are_compared_by_branch_with_their_offsets(run):
    external, dwarfs = _external(run, 100.0, {"teff": {"dwarf": 87.0}})
    giants, dwarf = external_evaluations(run.job, external)
    assert (giants.group, dwarf.group) == ("giant", "dwarf")
    assert len(dwarf.predicted) == dwarfs
    assert np.median(dwarf.predicted - dwarf.truth) == pytest.approx(13.0, abs=1e-3)
    assert np.median(giants.predicted - giants.truth) == pytest.approx(0.0, abs=1e-3)
    assert "teff +87 K dwarf" in dwarf.note
    external, _ = _external(run, 50.0, {"teff": -10.0})
    found = external_evaluations(run.job, external)
    assert np.median(found[0].predicted - found[0].truth) == pytest.approx(10.0, abs=1e-3)


def test_offsets_of_unknown_classes_or_labels_are_refused(run):
    external, _ = _external(run, 100.0, {"teff": {"subdwarf": 87.0}})
    evaluation = run.job.evaluation.model_copy(update={"external": (external,)})
    with pytest.raises(InputError, match="subdwarf"):
        check_externals(run.job.model_copy(update={"evaluation": evaluation}))
    with pytest.raises(InputError, match="or a column of classes"):
        check_externals(run.job.model_copy(update={"evaluation": evaluation.model_copy(update={"branches": None})}))
    other = External.model_validate(external.model_dump() | {"labels": {"ebv": "e"}, "offsets": {}})
    with pytest.raises(InputError, match="ebv"):
        check_externals(run.job.model_copy(update={"evaluation": evaluation.model_copy(update={"external": (other,)})}))
    with pytest.raises(ValidationError, match="logg"):
        External.model_validate(external.model_dump() | {"offsets": {"logg": 0.1}})


@pytest.mark.parametrize("kind", ["csv", "ecsv", "fits", "parquet"])
def test_isochrones_are_read_from_any_small_table(tmp_path, kind):
    columns = {"T": np.linspace(3000, 4000, 5), "g": np.linspace(5, 4.5, 5), "met": np.zeros(5)}
    path = tmp_path / f"lines.{kind}"
    if kind == "parquet":
        pq.write_table(pa.table(columns), path)
    else:
        Table(columns).write(path, format={"csv": "ascii.csv", "ecsv": "ascii.ecsv", "fits": "fits"}[kind])
    (line,) = read_isochrones(Isochrones(file=str(path), teff="T", logg="g", m_h="met"))
    assert line.m_h == 0.0
    assert line.teff == pytest.approx(columns["T"])


def test_isochrones_that_cannot_be_used_are_refused(tmp_path):
    path = tmp_path / "lines.csv"
    with pytest.raises(InputError, match="no such file"):
        read_isochrones(Isochrones(file=str(path)))
    path.write_text("teff,logg\n1,2\n")
    with pytest.raises(InputError, match="m_h"):
        read_isochrones(Isochrones(file=str(path)))
    path.write_text("teff,logg,m_h\n1,2,low\n")
    with pytest.raises(InputError, match="numbers"):
        read_isochrones(Isochrones(file=str(path)))
    (tmp_path / "lines.txt").write_text("1 2 3\n")
    with pytest.raises(InputError, match="unknown format"):
        read_isochrones(Isochrones(file=str(tmp_path / "lines.txt")))
    (tmp_path / "lines.parquet").write_text("1 2 3\n")
    with pytest.raises(InputError, match="damaged"):
        read_isochrones(Isochrones(file=str(tmp_path / "lines.parquet")))
