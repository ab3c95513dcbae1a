"""The evaluation of a run: every table against plain numpy, and wrong settings told before any work."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import write_mock

from stellarscale.catalog.reader import read_columns
from stellarscale.config import load_job
from stellarscale.errors import ConfigError, InputError
from stellarscale.flags import Flag
from stellarscale.kernels.healpix import pixel_of
from stellarscale.products.clusters import compare_clusters
from stellarscale.products.evaluation import against_labels, check_evaluation, sample_stars, write_tables
from stellarscale.products.external import external_evaluations, external_path
from stellarscale.products.reporting import step_row
from stellarscale.products.scan import scan_catalog, thinned
from stellarscale.products.truth import against_truth, check_truth
from stellarscale.report.content import ReportContent
from stellarscale.report.numbers import numbers_json
from stellarscale.settings.clusters import load_clusters

ROWS = 4000
ERRORS = "{pmra_error: pmra_error, pmdec_error: pmdec_error, parallax: parallax, parallax_error: parallax_error}"
COLUMNS = (
    "{source_id: source_id, ra: ra, dec: dec, class_code: class_code, bp_rp_0: bp_rp_0, m_g_0: m_g_0, g_mag: g_mag, "
    "pmra: pmra, pmdec: pmdec, u_mag_err: sages_u_mag_err, " + ERRORS[1:]
)
CLUSTER = """
clusters:
  Mock: {ra: 100.0, dec: 20.0, radius_deg: 0.5, pmra: -2.0, pmdec: 3.0, fe_h: -0.5, reference: this test}
  Elsewhere: {ra: 280.0, dec: -60.0, radius_deg: 0.5, pmra: -2.0, pmdec: 3.0, fe_h: 0.0, reference: this test}
  Empty: {ra: 101.5, dec: 20.0, radius_deg: 0.3, pmra: 40.0, pmdec: 40.0, fe_h: 0.0, reference: this test}
"""


def catalogue(seed=1):
    """Stars around (100, +20), the first 200 a cluster at the centre; estimates with honest errors."""
    rng = np.random.default_rng(seed)
    inside = np.arange(ROWS) < 200
    ra = np.where(inside, rng.normal(100, 0.1, ROWS), rng.uniform(98, 102, ROWS))
    dec = np.where(inside, rng.normal(20, 0.1, ROWS), rng.uniform(18, 22, ROWS))
    magnitude = rng.uniform(11, 17, ROWS)
    columns = {
        "_healpix_29": pixel_of(ra, dec),
        "source_id": rng.permutation(ROWS) + 2**60,
        "ra": ra,
        "dec": dec,
        "class_code": pa.array(rng.choice([0, 1], ROWS, p=[0.2, 0.8]).astype(np.int8), mask=rng.random(ROWS) < 0.05),
        "bp_rp_0": (0.12 * (magnitude - 6) + rng.normal(0, 0.01, ROWS)).astype(np.float32),
        "m_g_0": rng.normal(5, 1, ROWS).astype(np.float32),
        "g_mag": magnitude.astype(np.float32),
        "pmra": np.where(inside, rng.normal(-2, 0.1, ROWS), rng.normal(0, 5, ROWS)),
        "pmdec": np.where(inside, rng.normal(3, 0.1, ROWS), rng.normal(0, 5, ROWS)),
        "u_mag_err": np.full(ROWS, 0.02, np.float32),
        "pmra_error": np.full(ROWS, 0.05, np.float32),
        "pmdec_error": np.full(ROWS, 0.05, np.float32),
        "parallax": rng.normal(0.4, 0.03, ROWS),
        "parallax_error": np.full(ROWS, 0.03, np.float32),
        "quality_flags": pa.array(np.where(rng.random(ROWS) < 0.05, int(Flag.EXTRAPOLATED), 0).astype(np.int32)),
    }
    truth = {"teff": rng.normal(5500, 500, ROWS), "logg": rng.normal(4.3, 0.3, ROWS)}
    truth["fe_h"] = np.where(inside, -0.5, rng.uniform(-2.5, 0.4, ROWS))
    for label, sigma in (("teff", 80.0), ("logg", 0.1), ("fe_h", 0.1)):
        value = truth[label] + rng.normal(0, sigma, ROWS)
        columns[label] = pa.array(value.astype(np.float32), mask=rng.random(ROWS) < 0.1)
        columns[f"{label}_err"] = np.full(ROWS, sigma, np.float32)
        columns[f"{label}_err95"] = np.full(ROWS, 1.96 * sigma, np.float32)
    table = pa.table(columns).append_column("rank", pa.array(np.arange(ROWS)))
    return table.sort_by("_healpix_29"), truth


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    table, _ = catalogue()
    return write_mock(tmp_path_factory.mktemp("catalogue"), table.drop_columns(["rank"]), max_rows=700)[0]


@pytest.fixture
def job(tmp_path):
    clusters = tmp_path / "clusters.yaml"
    clusters.write_text(CLUSTER)
    table, truth = catalogue()
    ids = table.sort_by("rank")["source_id"]
    pq.write_table(pa.table({"source_id": ids, "teff_k": truth["teff"], "logg": truth["logg"], "fe_h": truth["fe_h"]}),
                   tmp_path / "truth.parquet", row_group_size=900)  # fmt: skip
    settings = f"{{metallicity: fe_h, clusters: {{file: {clusters}, max_mag_error: {{u_mag_err: 0.054}}}}}}"

    def make(*overrides):
        fixed = [f"out={tmp_path / 'run'}", f"truth.file={tmp_path / 'truth.parquet'}", f"output.columns={COLUMNS}"]
        return load_job("demo", [*fixed, f"evaluation={settings}", *overrides])

    return make


def test_the_scan_counts_what_is_there(stored, job):
    found = scan_catalog(job(), stored)
    table = read_columns(stored, ["fe_h", "class_code", "quality_flags"]).to_pandas()
    assert found.sky.counts.sum() == ROWS
    assert found.flags["EXTRAPOLATED"] == (table.quality_flags > 0).sum()
    assert found.flags["BLEND"] == 0
    histograms = found.metallicity
    assert histograms.names == ("all stars", "white dwarf", "hot subdwarf", "giant", "dwarf")
    for name, stars in (("all stars", table), ("giant", table[table.class_code == 0]), ("white dwarf", table[:0])):
        row = histograms.names.index(name)
        assert histograms.total[row] == histograms.counts[row].sum() == stars.fe_h.notna().sum()
        assert histograms.below[row].tolist() == [(stars.fe_h <= limit).sum() for limit in (0, -1, -2)]


def test_thinned_rows_do_not_depend_on_the_partitions(stored, tmp_path):
    other = write_mock(tmp_path / "other", catalogue()[0].drop_columns(["rank"]), max_rows=5000)[0]
    assert len(other.pixels) < len(stored.pixels)
    one, step = thinned(stored, ["source_id"], 500)
    two, _ = thinned(other, ["source_id"], 500)
    assert step == 8
    assert one["source_id"].to_pylist() == two["source_id"].to_pylist()
    assert one.num_rows == 500
    assert thinned(stored, ["source_id"], 10**9)[0].num_rows == ROWS


def test_the_truth_is_joined_by_id_whatever_its_order(stored, job):
    found = {each.label: each for each in against_truth(job(), stored)}
    table, truth = catalogue()
    assert set(found) == set(truth)
    order = table["rank"].to_numpy()
    for label, each in found.items():
        np.testing.assert_allclose(each.truth, truth[label][order])
        assert each.novel.sum() == (table["quality_flags"].to_numpy() > 0).sum()
        assert each.magnitude_name == "gaia_g_mag"
    numbers = numbers_json(ReportContent("x", evaluations=tuple(found.values()), class_names={0: "giant", 1: "dwarf"}))
    whole = [row for row in numbers["coverage"] if row["low"] is None]
    assert {row["group"] for row in whole} == {"all", "giant", "dwarf"}
    for row in whole:
        assert row["coverage_68"] == pytest.approx(0.683, abs=0.05)
        assert row["coverage_95"] == pytest.approx(0.95, abs=0.03)
    assert len(numbers["extrapolated"]) == 3


def test_stars_that_the_truth_lacks_or_has_without_an_id_are_left_out(stored, job, tmp_path):
    truth = pq.read_table(tmp_path / "truth.parquet").slice(0, 1000)
    ids = pa.array([None if i < 10 else v for i, v in enumerate(truth["source_id"].to_pylist())], pa.int64())
    pq.write_table(truth.set_column(0, "source_id", ids), tmp_path / "truth.parquet")
    assert all(np.isfinite(each.truth).sum() == 990 for each in against_truth(job(), stored))


def test_a_star_that_the_truth_has_twice_is_refused(stored, job, tmp_path):
    truth = pq.read_table(tmp_path / "truth.parquet")
    pq.write_table(pa.concat_tables([truth, truth.slice(5, 1)]), tmp_path / "truth.parquet")
    with pytest.raises(InputError, match="not unique"):
        against_truth(job(), stored)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t.drop_columns(["teff_k"]), "lacks columns.*teff_k"),
        (lambda t: t.set_column(0, "source_id", t["source_id"].cast(pa.string())), "different kinds.*int64 and string"),
        (lambda t: t.set_column(1, "teff_k", t["teff_k"].cast(pa.string())), "truth of teff is no number"),
    ],
)
def test_a_truth_that_cannot_be_joined_is_told_early(job, tmp_path, change, message):
    pq.write_table(change(pq.read_table(tmp_path / "truth.parquet")), tmp_path / "truth.parquet")
    with pytest.raises(InputError, match=message):
        check_truth(job())


def test_other_wrong_truths_are_told_early(job, tmp_path):
    with pytest.raises(InputError, match="will not have the id"):
        check_truth(job("truth.id=sage_id"))
    with pytest.raises(InputError, match="does not exist"):
        check_truth(job("truth.file=nowhere.parquet"))
    (tmp_path / "truth.parquet").write_text("id,teff")
    with pytest.raises(InputError, match="no Parquet"):
        check_truth(job())


@pytest.mark.parametrize(
    "override, kind, message",
    [
        ("evaluation={metallicity: m_h}", InputError, "no model gives.*m_h"),
        ("evaluation={clusters: {max_mag_error: {zz_err: 0.1}}}", InputError, "columns.*zz_err"),
        ("evaluation={clusters: {file: nowhere.yaml}}", ConfigError, "does not exist"),
        (
            "evaluation={external: [{name: a, match: {catalog: lamost}, labels: {age: lamost_age}}]}",
            InputError,
            "no model gives.*age",
        ),
    ],
)
def test_an_evaluation_that_cannot_be_done_is_told_early(job, override, kind, message):
    with pytest.raises(kind, match=message):
        check_evaluation(job(override))


def test_a_right_evaluation_passes(job):
    evaluation = job().evaluation
    assert evaluation.clusters is not None
    assert evaluation.metallicity == "fe_h"
    assert job().truth is not None
    check_evaluation(job())
    check_truth(job())


def test_clusters_are_measured_and_the_others_say_why_not(stored, job, tmp_path):
    results, members = compare_clusters(stored, job().evaluation.clusters)
    found = {each.name: each for each in results}
    assert found["Mock"].measured
    assert np.median(found["Mock"].values) == pytest.approx(-0.5, abs=0.03)
    assert 140 < found["Mock"].counts["used"] <= 200
    assert found["Elsewhere"].status == "outside of the footprint"
    assert found["Empty"].status == "too few stars with precise motions"
    assert set(members["cluster"].to_pylist()) == {"Mock"}
    numbers = numbers_json(ReportContent("x", clusters=tuple(results)))
    write_tables(numbers, members, tmp_path / "evaluation")
    rows = json.loads((tmp_path / "evaluation" / "clusters.json").read_text())
    assert rows[0]["mean"] == pytest.approx(-0.5, abs=0.03)
    assert rows[0]["literature"] == -0.5
    assert rows[1]["mean"] is None
    assert pq.read_table(tmp_path / "evaluation" / "cluster_members.parquet").num_rows == members.num_rows


def test_only_the_cone_is_read(stored, job, monkeypatch):
    from stellarscale.products import clusters

    seen = []
    read = clusters.read_ranges
    monkeypatch.setattr(clusters, "read_ranges", lambda *a, **k: seen.append(read(*a, **k)) or seen[-1])
    compare_clusters(stored, job().evaluation.clusters)
    assert 0 < seen[0].num_rows < ROWS / 4
    assert seen[1].num_rows == 0


def test_the_shipped_clusters_are_the_four_of_the_paper():
    clusters = load_clusters(None)
    assert set(clusters) == {"NGC 2420", "NGC 2682", "NGC 6934", "NGC 7089"}
    assert clusters["NGC 7089"].fe_h == -1.65


def test_an_external_catalogue_gives_offset_and_sigma_by_class(job, tmp_path):
    table, truth = catalogue()
    order = table["rank"].to_numpy()
    rng = np.random.default_rng(9)
    theirs = pa.array(truth["fe_h"][order] + 0.2 + rng.normal(0, 0.05, ROWS), mask=rng.random(ROWS) < 0.3)
    matched = table.drop_columns(["rank"]).append_column("other_fe_h", theirs)
    asked = job("evaluation={external: [{name: other, match: {catalog: lamost}, labels: {fe_h: other_fe_h}}]}")
    (external,) = asked.evaluation.external
    write_mock(external_path(asked, external), matched)
    found = {each.group: each for each in external_evaluations(asked, external)}
    assert set(found) == {"giant", "dwarf"}
    rows = numbers_json(ReportContent("x", evaluations=tuple(found.values())))["evaluations"]
    for row in rows:
        assert row["kind"] == "external"
        assert row["gaussian_mean"] == pytest.approx(-0.2, abs=0.03)
        assert row["gaussian_sigma"] == pytest.approx(np.hypot(0.1, 0.05), abs=0.02)
    (row,) = [row for row in rows if row["group"] == "dwarf"]
    complete = table["fe_h"].is_valid().to_numpy() & ~np.isnan(theirs.to_numpy(zero_copy_only=False))
    assert row["n"] == (complete & (table["class_code"].fill_null(9).to_numpy() == 1)).sum()


def test_a_misspelt_column_of_an_external_catalogue_is_told(job):
    asked = job("evaluation={external: [{name: other, match: {catalog: lamost}, labels: {fe_h: lamost_feh}}]}")
    (external,) = asked.evaluation.external
    write_mock(external_path(asked, external), catalogue()[0].drop_columns(["rank"]))
    with pytest.raises(InputError, match="lamost_feh"):
        external_evaluations(asked, external)


def model_files(folder, n=600):
    """What the training leaves of a model: its sample and what was evaluated."""
    rng = np.random.default_rng(2)
    role = np.array(["train", "held_out", "test:apogee"])[rng.choice(3, n, p=[0.6, 0.25, 0.15])]
    label = rng.uniform(-2, 0.4, n)
    sample = {"label": label, "role": role, "source": np.where(role == "test:apogee", "apogee", "lamost")}
    sample |= {"bp_rp_0": rng.normal(0.9, 0.1, n), "m_g_0": rng.normal(5, 1, n)}
    folder.mkdir(parents=True)
    pq.write_table(pa.table(sample), folder / "fe_h_dwarf_sample.parquet")
    rest = pa.table(sample).filter(pa.array(role != "train"))
    m = rest.num_rows
    added = {"prediction": rest["label"].to_numpy() + rng.normal(0, 0.1, m), "err": np.full(m, 0.1)}
    added |= {"err95": np.full(m, 0.2), "magnitude": rng.uniform(12, 16, m), "novel": np.zeros(m, bool)}
    for name, column in added.items():
        rest = rest.append_column(name, pa.array(column))
    pq.write_table(rest, folder / "fe_h_dwarf_evaluated.parquet")
    return role


def test_each_test_sample_is_an_evaluation_of_its_own(job, tmp_path):
    role = model_files(tmp_path / "models")
    spec = next(spec for spec in job().training.models if spec.name == "fe_h_dwarf")
    model = SimpleNamespace(
        spec=spec,
        path=tmp_path / "models" / "fe_h_dwarf.npz",
        held_out=tmp_path / "models" / "fe_h_dwarf_evaluated.parquet",
        numbers={"n_train": 3, "oob_score": 0.9},
    )
    held_out, apogee = against_labels(job(), model)
    assert (held_out.against, apogee.against) == ("held-out labels", "labels of apogee")
    assert len(held_out.truth) == (role == "held_out").sum()
    assert len(apogee.truth) == (role == "test:apogee").sum()
    assert held_out.oob_score == 0.9
    assert apogee.oob_score is None
    sample = sample_stars(job(), model)
    assert sample.kinds == (("apogee", "test:apogee"), ("lamost", "held_out"), ("lamost", "train"))
    assert sample.trains().tolist() == (role == "train").tolist()
    assert sample.roles == {name: (role == name).sum() for name in ("train", "held_out", "test:apogee")}


def test_only_an_import_rejects_and_a_step_made_before_took_no_time():
    step = {"name": "training rows", "step": "training rows", "rows_in": 9, "written": 6, "seconds": 2.0}
    row = step_row(step | {"rejected": {"no label": 1, "E(B-V)": 2}, "partitions": 4, "resumed_partitions": 1})
    assert (row.rejected, row.left_out, row.resumed_partitions, row.seconds) == (0, 3, 1, 2.0)
    row = step_row(step | {"step": "import", "rejected": 3, "partitions": 4, "resumed": True})
    assert (row.rejected, row.left_out, row.resumed_partitions, row.seconds) == (3, 0, 4, 0.0)
    assert row.made_before
