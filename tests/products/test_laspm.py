"""The product laspm from files to report, on a small mock survey: every row accounted for, parameters recovered."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from reference.command_line import call, summary
from reference.mock_m_sky import (
    GRID,
    LABELS,
    ROWS,
    SAMPLE,
    WINDOWS,
    column,
    digests,
    fits_parts,
    m_job,
    receipts,
    steps_of,
    with_references,
)

from stellarscale.catalog.reader import open_stored
from stellarscale.catalog.spectra_fits import read_spectra_fits
from stellarscale.catalog.verify import verify
from stellarscale.errors import RunError
from stellarscale.flags import Flag
from stellarscale.kernels.stats import robust_sigma
from stellarscale.products import laspm
from stellarscale.products.dispatch import rebuild_report

# What the robust sigma against the truth stays below, K and dex: the bins of the references are 100 K and 0.3 dex wide.
SIGMA = {"teff": 75.0, "logg": 0.1, "m_h": 0.2}
REJECTED = {"truncated", "wrong_layout", "no_z", "short_grid"}


def truth_of(run, catalog, *names):
    """Columns of the truth in the order of a catalogue's rows."""
    place = pc.index_in(column(catalog, "spectrum_id")["spectrum_id"], value_set=run.truth["spectrum_id"])
    return run.truth.select(list(names)).take(place)


def numbers(table, name):
    return table[name].to_numpy(zero_copy_only=False).astype(float)


# ---- rows


def test_every_spectrum_is_a_row_of_the_catalogue_or_a_reject(m_run):
    catalog, spectra = m_run.out / "catalog", m_run.store / "spectra"
    rejects = pq.read_table(spectra / "rejects.parquet")
    ids = column(catalog, "spectrum_id")["spectrum_id"].to_pylist() + rejects["id"].to_pylist()
    assert sorted(ids) == sorted(m_run.truth["spectrum_id"].to_pylist())
    damage = dict(zip(m_run.truth["spectrum_id"].to_pylist(), m_run.truth["bad_file"].to_pylist(), strict=True))
    assert {damage[name] for name in rejects["id"].to_pylist()} == REJECTED
    assert all(rejects["reason"].to_pylist())
    assert m_run.done["written"] == len(ids) - rejects.num_rows
    assert not verify(catalog).problems


def test_rows_are_conserved_from_step_to_step(m_run):
    steps = m_run.steps
    assert steps["import spectra"]["rows_in"] == ROWS
    assert steps["import spectra"]["rejected"] == len(REJECTED)
    for name, step in steps.items():
        lost = step.get("rejected", 0)
        if name != "leave one out":
            assert step["rows_in"] == step["written"] + (sum(lost.values()) if isinstance(lost, dict) else lost), name
    for name in ("match spectra", "attach mstellar", "errors"):
        assert steps[name]["rows_in"] == steps["import spectra"]["written"], name
    assert steps["sample: selection and cleaning"]["rows_in"] == steps["sample: cuts of single rows"]["written"]


def test_every_spectrum_is_in_the_sample_or_has_one_reason_not_to_be(m_run):
    cleaned = m_run.references.parent
    rejects = pq.read_table(cleaned / "rejects.parquet")
    _, _, sample = fits_parts(cleaned / "sample.fits")
    listed = column(m_run.store / "mstellar", "obsid")["obsid"].to_pylist()
    assert sorted([*sample["obsid"].tolist(), *rejects["obsid"].to_pylist()]) == sorted(listed)
    assert all(rejects["reason"].to_pylist())
    step = m_run.steps["sample: selection and cleaning"]
    reasons = dict(zip(*np.unique(rejects["reason"].to_numpy(zero_copy_only=False), return_counts=True), strict=True))
    for fate, count in step["fates"].items():
        assert count == (len(sample) if fate == "kept" else reasons[fate]), fate
    assert {"RUWE", "S/N", "variable star", "no spectrum in the catalogue"} <= set(reasons)


# ---- files of labelled spectra


@pytest.mark.parametrize("name", ["sample", "references"])
def test_astropy_reads_labels_wavelengths_and_provenance(m_run, name):
    header, flux, table = fits_parts(m_run.references.with_name(f"{name}.fits"))
    step = m_run.steps["sample: selection and cleaning"]
    assert flux.shape == (step["written" if name == "sample" else "references"], header["NAXIS1"])
    assert flux.dtype.itemsize == 4
    assert np.isfinite(flux).all()
    wave = 10.0 ** (header["CRVAL1"] + header["CDELT1"] * (np.arange(flux.shape[1]) + 1 - header["CRPIX1"]))
    assert (header["DC-FLAG"], header["VACUUM"], header["CDELT1"]) == (1, True, 2e-4)
    assert wave[0] == pytest.approx(6000, rel=1e-3)
    assert wave[-1] == pytest.approx(7600, rel=1e-3)
    assert (header["ORIGIN"], len(header["CONFIG"])) == ("stellarscale", 32)
    assert header["VERSION"]
    units = {one.name: one.unit for one in table.columns}
    assert {"obsid", "source_id", "snr_i", "branch", "label_source", *LABELS} <= set(table.names)
    assert (units["teff"], units["teff_left_out"]) == ("K", "K")
    for label in LABELS:
        assert np.isfinite(table[label]).all()
    assert len(set(table["source_id"])) == len(table), "one spectrum of each star"


def test_references_are_the_best_of_the_sample_in_their_bins(m_run):
    _, flux, sample = fits_parts(m_run.references.with_name("sample.fits"))
    _, chosen, references = fits_parts(m_run.references)
    ivar = read_spectra_fits(m_run.references.with_name("sample.fits")).ivar
    complete = (ivar <= 0).mean(axis=1) <= m_run.job.references.sample.cleaning.reference.max_filled
    place = [sample["obsid"].tolist().index(one) for one in references["obsid"]]
    assert np.array_equal(flux[place], chosen)
    steps = (100.0, 0.3, 0.3)
    bins = [
        np.stack([np.floor(table[n] / s + 1e-9) for n, s in zip(LABELS, steps, strict=True)], axis=1)
        for table in (sample, references)
    ]
    assert len(np.unique(bins[1], axis=0)) == len(references)
    for bin_, snr in zip(bins[1], references["snr_i"], strict=True):
        assert snr == sample["snr_i"][(bins[0] == bin_).all(axis=1) & complete].max()


# ---- parameters


def test_parameters_are_recovered(m_run):
    found = column(m_run.out / "catalog", *LABELS)
    true = truth_of(m_run, m_run.out / "catalog", *LABELS)
    for label, limit in SIGMA.items():
        residual = numbers(found, label) - numbers(true, label)
        residual = residual[np.isfinite(residual)]
        assert len(residual) >= ROWS - 10
        assert robust_sigma(residual) < limit, label
        assert abs(np.median(residual)) < limit / 2, label
    told = {row["model"]: row["robust_sigma"] for row in m_run.done["evaluations"]}
    assert told.keys() == {f"{label} catalogue" for label in LABELS}
    assert all(told[f"{label} catalogue"] < limit for label, limit in SIGMA.items())


def test_giants_are_told_from_dwarfs(m_run):
    found = numbers(column(m_run.out / "catalog", "logg"), "logg")
    true = numbers(truth_of(m_run, m_run.out / "catalog", "logg"), "logg")
    known = np.isfinite(found)
    giant = true < 3.5
    assert 50 < giant.sum() < 200
    assert np.mean((found < 3.5)[known & giant]) > 0.95
    assert np.mean((found >= 3.5)[known & ~giant]) > 0.98


def test_labels_have_errors_that_fall_with_the_signal_to_noise(m_run):
    names = [f"{label}{end}" for label in LABELS for end in ("", "_err", "_precision")]
    table = column(m_run.out / "catalog", *names, "snr_i")
    snr = numbers(table, "snr_i")
    for label in LABELS:
        value, err, precision = (numbers(table, f"{label}{end}") for end in ("", "_err", "_precision"))
        assert np.array_equal(np.isfinite(value), np.isfinite(err)), label
        known = np.isfinite(err)
        assert (err[known] >= precision[known]).all()
        assert (precision[known] > 0).all()
        assert np.median(err[known & (snr < 20)]) > np.median(err[known & (snr > 60)])
    assert column(m_run.out / "catalog", "teff_err").schema.field("teff_err").metadata[b"unit"] == b"K"


def test_damaged_spectra_are_flagged_rows_without_labels(m_run):
    catalog = m_run.out / "catalog"
    table = column(catalog, *LABELS, "quality_flags", "n_pix", "chi2", "reference_ids")
    damage = np.array(truth_of(m_run, catalog, "bad_file")["bad_file"].to_pylist())
    masked, negative = (table.filter(pa.array(damage == kind)).to_pylist() for kind in ("all_masked", "negative_flux"))
    assert len(masked) == len(negative) == 1
    for row in (*masked, *negative):
        assert [row[label] for label in LABELS] == [None, None, None]
        assert row["chi2"] is None
        assert set(row["reference_ids"]) == {-1}
    assert masked[0]["n_pix"] == 0
    assert masked[0]["quality_flags"] & Flag.TOO_FEW_PIXELS
    assert masked[0]["quality_flags"] & Flag.MASKED_PIXELS
    assert negative[0]["quality_flags"] & Flag.NOT_POSITIVE_FLUX
    bad = Flag.TOO_FEW_PIXELS | Flag.NOT_POSITIVE_FLUX
    for row in table.filter(pa.array(damage == "")).to_pylist():
        known = row["teff"] is not None
        assert known != bool(row["quality_flags"] & bad), "labels are missing where a flag says why, and only there"


def test_columns_of_the_attached_catalogue_are_those_of_the_spectrum(m_run):
    table = column(m_run.out / "catalog", "obsid", "source_id")
    true = truth_of(m_run, m_run.out / "catalog", "source_id", "layout")
    known = table["source_id"].is_valid().to_numpy()
    pilot = np.array(true["layout"].to_pylist()) == "pilot"
    assert known.any()
    assert not known[pilot].any(), "the pilot survey's files have no obsid"
    ours, theirs = (t["source_id"].filter(pa.array(known)).to_pylist() for t in (table, true))
    assert ours == theirs


def test_leave_one_out_is_told_and_stored(m_run):
    step = m_run.steps["leave one out"]
    table = pq.read_table(m_run.out / "leave_one_out" / "labels.parquet")
    assert table.num_rows == step["rows_in"] == m_run.steps["sample: selection and cleaning"]["references"]
    residual = numbers(table, "teff_left_out") - numbers(table, "teff")
    assert step["numbers"]["teff"]["robust_sigma"] == pytest.approx(robust_sigma(residual))
    assert step["numbers"]["teff"]["robust_sigma"] < 150
    report = json.loads((m_run.out / "report.json").read_text())
    assert report["leave_one_out"]["plain"] == step["numbers"]


def test_the_report_has_the_sample_and_the_counts(m_run):
    report = json.loads((m_run.out / "report.json").read_text())
    step = m_run.steps["sample: selection and cleaning"]
    assert report["cleaning"]["fates"] == step["fates"]
    assert report["cleaning"]["references"] == step["references"]
    assert {row["branch"] for row in report["selection"]["steps"]} >= {"dwarf", "giant"}
    page = (m_run.out / "report.html").read_text()
    assert "References, each left out" in page
    assert page.count("<img") >= 8


# ---- again


def test_an_unchanged_rerun_redoes_nothing_and_reports_the_same(m_run):
    before, bytes_before = receipts(m_run.out), digests(m_run.out / "catalog")
    report = json.loads((m_run.out / "report.json").read_text())
    steps = m_run.steps
    done = laspm.run(m_run.job, cluster="threads:2")
    assert {name: step.get("resumed") for name, step in steps_of(m_run.out).items()} == dict.fromkeys(steps, True)
    assert receipts(m_run.out) == before
    assert digests(m_run.out / "catalog") == bytes_before
    assert done["evaluations"] == m_run.done["evaluations"]
    again = json.loads((m_run.out / "report.json").read_text())
    assert without_steps(again) == without_steps(report)
    rebuild_report(m_run.out)
    assert json.loads((m_run.out / "report.json").read_text()) == again


def without_steps(report):
    """The numbers of a report but for the times of the steps and whether they were resumed."""
    return {name: value for name, value in report.items() if name not in {"steps", "seconds"}}


def test_threads_and_processes_make_the_same_bytes(m_run, monkeypatch, tmp_path):
    monkeypatch.setattr("stellarscale.products.laspm_reporting.report_run", lambda *content: {})
    done = {
        cluster: laspm.run(with_references(m_run, tmp_path / str(number)), cluster=cluster)
        for number, cluster in enumerate(("threads:1", "processes:2"))
    }
    assert {each["written"] for each in done.values()} == {m_run.done["written"]}
    one, two = (digests(tmp_path / str(number) / "catalog") for number in (0, 1))
    assert one == two
    assert len(one) > 1
    theirs = digests(m_run.out / "matched")
    assert digests(tmp_path / "0" / "matched") == theirs


def test_changed_settings_are_refused_with_both_values(m_run):
    with pytest.raises(RunError, match="matcher") as told:
        laspm.run(m_job(m_run.sky, m_run.out, "matching.k=3"), cluster="threads:1")
    text = str(told.value)
    for part in ("k was 5, now 3", "--update", str(m_run.out)):
        assert part in text
    assert digests(m_run.out / "catalog")


def test_a_subset_is_that_part_of_the_whole(m_run, monkeypatch, tmp_path):
    monkeypatch.setattr("stellarscale.products.laspm_reporting.report_run", lambda *content: {})
    job = with_references(m_run, tmp_path / "part")
    catalog = column(m_run.out / "catalog", "spectrum_id", "ra", "dec", "teff").to_pylist()
    centre = catalog[len(catalog) // 2]
    subset = f"cone:{centre['ra']:.4f},{centre['dec']:.4f},1"
    done = laspm.run(job, cluster="threads:2", subset=subset)
    part = column(tmp_path / "part" / "catalog", "spectrum_id", "teff").to_pylist()
    assert 0 < done["written"] == len(part) < len(catalog)
    whole = {row["spectrum_id"]: row["teff"] for row in catalog}
    assert all(whole[row["spectrum_id"]] == row["teff"] for row in part)
    assert centre["spectrum_id"] in {row["spectrum_id"] for row in part}
    assert open_stored(tmp_path / "part" / "matched").properties.extra["stellarscale_subset"] == subset
    with pytest.raises(RunError, match="subset"):
        laspm.run(job, cluster="threads:1")


# ---- the command line


def overrides(*settings):
    return [word for setting in settings for word in ("--set", setting)]


def test_a_dry_run_says_what_would_be_done_and_does_nothing(m_run, tmp_path):
    given = overrides(f"data={m_run.sky}", f"out={tmp_path / 'out'}", GRID, WINDOWS, *SAMPLE)
    told = summary("run", "laspm", "--dry-run", *given)
    assert (told["job"], told["spectra"], told["references"]) == ("laspm", "spectra", "the empirical sample")
    assert set(told["inputs"]) == set(m_run.job.used_catalogs)
    assert told["inputs"]["spectra"] == [str(m_run.sky / "spectra")]
    assert not (tmp_path / "out").exists()


def test_keys_of_the_product_say_what_they_mean():
    text = call("keys", "--product", "laspm").output
    for name in ("references.sample.cleaning.clustering.eps", "matching.windows_aa", "attach[].radius_arcsec"):
        assert name in text


def test_the_status_of_the_run_lists_its_steps(m_run):
    result = call("status", m_run.out)
    assert result.exit_code == 0
    for name in ("match_spectra", "leave_one_out", "sample/cleaned", "catalogs/spectra", "finished"):
        assert name in result.output
