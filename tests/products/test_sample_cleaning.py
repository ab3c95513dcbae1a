"""The empirical sample: known bad spectra are caught, review decisions hold, every spectrum has a fate."""

from __future__ import annotations

import csv
import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from reference.cool_spectra import SMALL, observed, spectra
from scipy.optimize import nnls

from stellarscale.errors import ConfigError, InputError
from stellarscale.kernels.fluxes import medians
from stellarscale.kernels.recalibrate import ModelGrid
from stellarscale.products.review_table import COLUMNS, ReviewRow, update_review
from stellarscale.products.sample_bins import Fate, Sample, clean_bins, prepare
from stellarscale.products.sample_cleaning import clean_sample, leave_one_out, reference_grid, review, template_matcher
from stellarscale.settings.cleaning import Clustering, NetworkCleaning, SampleCleaning

N_BINS, PER_BIN = 36, 9
SETTINGS = SampleCleaning(
    clustering=Clustering(eps=0.75),
    network=NetworkCleaning(iterations=500, hidden=(64, 32), batch_size=64, learning_rate=3e-3, sessions=2),
)
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


class Mock:
    """Bins of nine spectra each, all bent by the instrument, some of them bad, and the spectra's reader."""

    def __init__(self, seed=0):
        rng = np.random.default_rng(seed)
        cells = np.stack(np.meshgrid(np.arange(6), np.arange(3), np.arange(2), indexing="ij"), axis=-1).reshape(-1, 3)
        corners = np.array([3300.0, 4.6, -0.4]) + cells * [100.0, 0.2, 0.3]
        self.labels = np.repeat(corners + np.array([25.0, 0.05, 0.05]), PER_BIN, axis=0)
        self.labels += rng.uniform(-0.15, 0.15, self.labels.shape) * [50.0, 0.1, 0.1]
        self.snr = rng.uniform(100.0, 200.0, len(self.labels))
        self.labels = np.concatenate([self.labels, [[4025.0, 4.75, 0.25], [3925.0, 5.15, 0.25], [3926.0, 5.15, 0.25]]])
        self.snr = np.append(self.snr, [150.0, 140.0, 130.0])
        n = len(self.labels)
        truth = self.labels.copy()
        self.alone, self.pair = n - 3, [n - 2, n - 1]
        truth[self.pair[1], 0] -= 400.0
        self.wrong_labels, self.bad_flux, self.noisy = [4, 50], [23], [100]
        truth[self.wrong_labels, 0] += 250.0
        model = spectra(truth, SMALL)
        x = np.linspace(-1.0, 1.0, SMALL.n_pix)
        bent = model * (1.0 + rng.uniform(-0.3, 0.3, (n, 1)) * x + rng.uniform(-0.1, 0.1, (n, 1)) * x**2)
        bent[self.bad_flux] *= 1.0 + 0.4 * np.sin(np.arange(SMALL.n_pix) / 8.0)
        self.snr[self.noisy] = 8.0
        self.flux, self.ivar = observed(bent, self.snr, rng, masked=0.01)
        self.masked, self.negative, self.unlabelled = 140, 150, 160
        self.ivar[self.masked, : SMALL.n_pix * 2 // 3] = 0.0
        self.flux[self.negative] *= -1.0
        self.labels[self.unlabelled, 2] = np.nan
        ids = np.array([f"spec-{row:05d}" for row in range(n)])
        self.sample = Sample(ids, self.labels, self.snr, np.arange(n), np.full(n, "dwarf"))
        self.largest_load = 0
        grid = np.stack(np.meshgrid(np.arange(3200.0, 4201, 100), [4.4, 4.8, 5.2], [-0.5, 0.0, 0.5], indexing="ij"), -1)
        grid = grid.reshape(-1, 3)
        self.models = {"dwarf": ModelGrid(spectra(grid, SMALL), grid, scales=(100.0, 0.5, 0.5))}

    def load(self, rows):
        self.largest_load = max(self.largest_load, len(rows))
        return self.flux[rows], self.ivar[rows]

    def bins(self, settings=SETTINGS, **change):
        return clean_bins(self.sample, self.load, grid=SMALL, settings=settings, models=self.models, **change)

    def clean(self, directory, settings=SETTINGS):
        return clean_sample(
            self.sample, self.load, grid=SMALL, match=plain_match, directory=directory, settings=settings,
            models=self.models,
        )  # fmt: skip


def plain_match(flux, ivar, references, stars):
    """Five best at a free scale, their simplex weights by non-negative least squares."""
    index, weights = np.full((len(flux), 5), -1), np.zeros((len(flux), 5))
    for row in range(len(flux)):
        others = np.flatnonzero(stars != stars[row])
        top = references[others] @ (ivar[row] * flux[row])
        chi2 = -(top**2) / (references[others] ** 2 @ ivar[row])
        best = others[np.argsort(chi2)[:5]]
        root = np.sqrt(ivar[row])
        found, _ = nnls((references[best] * root).T, flux[row] * root)
        index[row, : len(best)], weights[row, : len(best)] = best, found / found.sum()
    return index, weights


@pytest.fixture(scope="module")
def mock():
    return Mock()


@pytest.fixture(scope="module")
def cleaned(mock, tmp_path_factory):
    directory = tmp_path_factory.mktemp("sample")
    return mock.clean(directory), directory


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return {row["spectrum_id"]: row for row in csv.DictReader(file)}


def decide(path, decisions, **extra):
    """Edit the table as its reader does."""
    rows = read(path)
    for name, keep in decisions.items():
        rows[name]["keep"] = keep
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, *extra])
        writer.writeheader()
        writer.writerows(row | extra for row in rows.values())


def test_known_bad_spectra_are_caught_and_named(mock):
    fate = mock.bins().fate
    assert (fate[mock.wrong_labels + mock.bad_flux + mock.noisy] == Fate.OUTLIER).all()
    assert fate[mock.masked] == Fate.UNUSABLE
    assert fate[mock.negative] == Fate.UNUSABLE
    assert fate[mock.unlabelled] == Fate.NO_LABELS
    assert (fate[[mock.alone, *mock.pair]] == Fate.UNDECIDED).all()
    bad = [*mock.wrong_labels, *mock.bad_flux, *mock.noisy, mock.masked, mock.negative, mock.unlabelled]
    good = np.delete(fate, [*bad, mock.alone, *mock.pair])
    assert np.isin(good, [Fate.KEPT, Fate.ENOUGH]).mean() > 0.97


def test_at_most_seven_of_a_bin_are_kept_and_these_are_the_best(mock):
    found = mock.bins()
    number = found.bins.number[found.rows]
    assert np.bincount(number).max() == 7
    for each in np.unique(number):
        rows = found.bins.rows(each)
        kept, more = (mock.snr[rows[found.fate[rows] == fate]] for fate in (Fate.KEPT, Fate.ENOUGH))
        assert len(more) == 0 or kept.min() > more.max()


def test_only_the_best_of_a_bin_are_read(mock):
    settings = SETTINGS.model_copy(update={"bins": SETTINGS.bins.model_copy(update={"best": 4})})
    mock.largest_load = 0
    fate = mock.bins(settings).fate
    assert mock.largest_load == 4
    assert (fate == Fate.BEYOND_BEST).sum() >= N_BINS * (PER_BIN - 4) - 1


def test_spectra_come_out_recalibrated_and_of_unit_median(mock):
    found = mock.bins()
    chosen = found.reason == ""
    np.testing.assert_allclose(medians(found.flux[chosen], found.ivar[chosen]), 1.0, rtol=1e-5)
    truth = spectra(mock.labels[found.rows[chosen]], SMALL)
    truth /= np.median(truth, axis=1, keepdims=True)
    has = found.ivar[chosen] > 0
    assert np.median(np.abs(found.flux[chosen] / truth - 1.0)[has]) < 0.02
    chi = (found.flux[chosen] - truth)[has] * np.sqrt(found.ivar[chosen][has])
    assert 0.9 < np.median(np.abs(chi)) / 0.6745 < 3.0
    bare = clean_bins(mock.sample, mock.load, grid=SMALL, settings=SETTINGS)
    assert (bare.fate == Fate.KEPT).sum() < 0.3 * (found.fate == Fate.KEPT).sum(), "the bends keep spectra apart"


def test_a_failed_recalibration_is_a_fate(mock):
    flux, ivar = mock.flux[:3].copy(), mock.ivar[:3].copy()
    flux[1] -= 3.0 * np.nanmedian(flux[1]) * (np.linspace(-1, 1, SMALL.n_pix) < -0.3)
    kinds, everything = np.full(3, "dwarf"), slice(0, SMALL.n_pix)
    _, _, fate = prepare(flux, ivar, mock.labels[:3], kinds, everything, SETTINGS, mock.models)
    assert fate.tolist() == [Fate.KEPT, Fate.NOT_RECALIBRATED, Fate.KEPT]


def test_reasons_say_how_far_the_spectra_are(mock):
    found = mock.bins()
    reason = dict(zip(found.rows.tolist(), found.reason, strict=True))
    assert reason[mock.alone] == "alone in its bin"
    assert reason[mock.pair[0]].startswith("no cluster among 2 spectra at eps 0.75: nearest at ")
    assert found.examples[0].eps == 0.75
    assert found.examples[1].eps == 1.5


@needs_torch
def test_every_spectrum_has_one_fate_and_the_sample_agrees_with_it(cleaned, mock):
    done, _ = cleaned
    assert sum(done.counts.values()) == len(mock.labels)
    np.testing.assert_array_equal(np.flatnonzero(done.fate == Fate.KEPT), done.rows)
    assert len(done.flux) == len(done.ivar) == len(done.derived) == len(done.reference) == len(done.rows)
    bad = [*mock.wrong_labels, *mock.bad_flux, *mock.noisy, mock.masked, mock.negative, mock.alone, *mock.pair]
    assert not np.isin(bad, done.rows).any()
    assert len(done.rows) > 0.9 * 7 * N_BINS
    for session in done.sessions:
        assert np.isin(session.rows[session.outlier], np.flatnonzero(done.fate == Fate.CONTRADICTED)).all()


@needs_torch
def test_leave_one_out_gives_the_labels_back(cleaned, mock):
    done, _ = cleaned
    difference = done.derived - mock.labels[done.rows]
    assert np.isfinite(difference).all()
    assert (np.median(np.abs(difference), axis=0) < [20.0, 0.04, 0.04]).all()


@needs_torch
def test_the_reference_grid_is_the_best_spectrum_of_each_bin(cleaned, mock):
    done, _ = cleaned
    steps = np.array([50.0, 0.1, 0.1])
    cell = np.floor(mock.labels[done.rows] / steps + 1e-6)
    filled = np.unique(cell, axis=0)
    assert done.reference.sum() == len(filled)
    for each in filled:
        rows = (cell == each).all(axis=1)
        complete = rows & ((done.ivar[:, SMALL.window(6000, 8800)] <= 0).mean(axis=1) <= 0.02)
        assert mock.snr[done.rows[rows & done.reference]] == mock.snr[done.rows[complete]].max()


def test_spectra_with_gaps_are_no_references(mock):
    bins = mock.bins().bins
    rows = bins.rows(0)
    best = rows[np.argmax(mock.snr[rows])]
    chosen = reference_grid(bins, rows, mock.snr, rows != best)
    assert chosen.sum() == 1
    assert mock.snr[rows[chosen]] == np.sort(mock.snr[rows])[-2]
    assert not reference_grid(bins, rows, mock.snr, np.zeros(len(rows), dtype=bool)).any()


def test_other_spectra_of_the_star_are_no_references():
    flux = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], dtype=np.float32)
    labels = np.array([[3500.0, 4.8, 0.0], [3500.0, 4.8, 0.0], [3900.0, 4.6, 0.2]])
    derived = leave_one_out(flux, np.ones_like(flux), labels, np.array([7, 7, 8]), match=plain_match)
    np.testing.assert_allclose(derived[:2], labels[[2, 2]])
    lonely = leave_one_out(flux[:1], np.ones((1, 3), dtype=np.float32), labels[:1], np.array([7]), match=nobody)
    assert np.isnan(lonely).all()


def test_the_products_own_matcher_serves(mock):
    found = mock.bins()
    rows = found.rows[found.reason == ""]
    window = SMALL.window(6000.0, 8800.0)
    flux, ivar = (each[found.reason == ""][:, window] for each in (found.flux, found.ivar))
    labels, stars = mock.labels[rows], rows // 2
    own, plain = (
        leave_one_out(flux, ivar, labels, stars, match=each) for each in (template_matcher(order=0), plain_match)
    )
    assert (np.abs(own - plain).max(axis=0) < [1.0, 0.005, 0.005]).all()


def nobody(flux, ivar, references, stars):
    return np.full((len(flux), 5), -1), np.zeros((len(flux), 5))


def test_review_decisions_survive_reruns(mock, tmp_path):
    found = mock.bins()
    table = tmp_path / "review.csv"
    names = mock.sample.ids
    arguments = {"grid": SMALL, "directory": tmp_path, "settings": SETTINGS}
    accepted, fate = review(mock.sample, found, **arguments)
    rows = read(table)
    assert sorted(rows) == sorted(names[[mock.alone, *mock.pair]])
    assert all((tmp_path / row["plot"]).read_bytes().startswith(b"\x89PNG") for row in rows.values())
    assert not np.isin([mock.alone, *mock.pair], found.rows[accepted]).any()
    decide(table, {names[mock.alone]: "Keep ", names[mock.pair[1]]: "drop"}, comment="seen by eye")
    written = table.read_bytes()
    picture = tmp_path / rows[names[mock.alone]]["plot"]
    drawn = picture.stat().st_mtime_ns
    (tmp_path / rows[names[mock.pair[0]]]["plot"]).unlink()
    for _ in range(2):
        accepted, fate = review(mock.sample, found, **arguments)
        assert table.read_bytes() == written
        assert fate[mock.alone] == Fate.KEPT
        assert fate[mock.pair[0]] == Fate.UNDECIDED
        assert fate[mock.pair[1]] == Fate.DROPPED
        assert np.isin(mock.alone, found.rows[accepted])
        assert picture.stat().st_mtime_ns == drawn, "nothing about it has changed"
        assert (tmp_path / rows[names[mock.pair[0]]]["plot"]).is_file()


def test_the_default_for_the_undecided_is_a_setting(mock, tmp_path):
    found = mock.bins()
    clustering = SETTINGS.clustering.model_copy(update={"undecided": "keep"})
    settings = SETTINGS.model_copy(update={"clustering": clustering})
    _, fate = review(mock.sample, found, grid=SMALL, directory=tmp_path, settings=settings)
    assert (fate[[mock.alone, *mock.pair]] == Fate.KEPT).all()


def test_decisions_outlive_settings_under_which_nothing_is_reviewed(tmp_path):
    table = tmp_path / "review.csv"
    one, two = (ReviewRow(name, "bin", "alone in its bin", 50.0, f"plots/{name}.png") for name in ("one", "two"))
    assert update_review(table, [one, two]) == {}
    decide(table, {"one": "drop"})
    assert update_review(table, []) == {"one": "drop"}
    assert list(read(table)) == ["one"]
    assert update_review(table, [two, one]) == {"one": "drop"}
    unchanged = table.stat().st_mtime_ns
    update_review(table, [two, one])
    assert table.stat().st_mtime_ns == unchanged


def test_a_dropped_spectrum_stays_dropped_when_a_cluster_takes_it_in(mock, tmp_path):
    found = mock.bins()
    row = found.rows[found.reason == ""][3]
    name = str(mock.sample.ids[row])
    update_review(tmp_path / "review.csv", [ReviewRow(name, "bin", "alone in its bin", 50.0, "")])
    decide(tmp_path / "review.csv", {name: "drop"})
    _, fate = review(mock.sample, found, grid=SMALL, directory=tmp_path, settings=SETTINGS)
    assert fate[row] == Fate.DROPPED


def test_decisions_on_spectra_that_are_not_there_are_told(mock, tmp_path, caplog):
    found = mock.bins()
    (tmp_path / "review.csv").write_text("spectrum_id,keep\n1.01E+08,drop\n")
    review(mock.sample, found, grid=SMALL, directory=tmp_path, settings=SETTINGS)
    assert "not in the sample: 1.01E+08" in caplog.text


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "spectrum_id,bin,reason,snr,plot,keep\none,b,r,5,p,maybe\n",
            "unknown decision.*line 2, spectrum one.*'maybe'",
        ),
        ("spectrum_id;bin;keep\none;b;keep\n", "lacks a column.*another separator"),
        ("spectrum_id,keep\none,keep\none,drop\n", "twice in the review table"),
    ],
)
def test_damaged_review_tables_are_refused(tmp_path, text, message):
    table = tmp_path / "review.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=message):
        update_review(table, [])
    assert table.read_text() == text


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path):
    table = tmp_path / "review.csv"
    table.write_bytes("\ufeffspectrum_id,keep\r\none,KEEP\r\ntwo,\r\n".encode())
    assert update_review(table, [ReviewRow("two", "b", "r", 5.0, "p")]) == {"one": "keep"}


@needs_torch
def test_the_same_seed_gives_the_same_sample(cleaned, mock, tmp_path):
    done, _ = cleaned
    again = mock.clean(tmp_path)
    np.testing.assert_array_equal(again.rows, done.rows)
    np.testing.assert_array_equal(again.fate, done.fate)
    np.testing.assert_array_equal(again.derived, done.derived)


def test_wrong_inputs_are_refused(mock, tmp_path):
    sample = mock.sample
    with pytest.raises(InputError, match="in the sample twice"):
        replace(sample, ids=np.full(len(sample.ids), "x"))
    with pytest.raises(InputError, match="differ in length"):
        replace(sample, snr=sample.snr[1:])
    with pytest.raises(ConfigError, match=r"no model grid for a kind of star.*giant"):
        clean_bins(
            replace(sample, kinds=np.full(len(sample.ids), "giant")), mock.load, grid=SMALL, settings=SETTINGS,
            models=mock.models,
        )  # fmt: skip
    other = ModelGrid(mock.models["dwarf"].flux[:, 1:], np.eye(99)[:, :3], scales=(1, 1, 1), method="nearest")
    with pytest.raises(InputError, match="different grids"):
        clean_bins(sample, mock.load, grid=SMALL, settings=SETTINGS, models={"dwarf": other})
    with pytest.raises(InputError, match="not on the grid"):
        clean_bins(sample, lambda rows: (np.ones((len(rows), 5)),) * 2, grid=SMALL, settings=SETTINGS)
    wide = SETTINGS.model_copy(update={"clustering": SETTINGS.clustering.model_copy(update={"wave_aa": (3500, 8800)})})
    with pytest.raises(ConfigError, match="do not cover the wavelengths of the clustering"):
        mock.bins(wide)
