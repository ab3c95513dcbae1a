"""The mock of an M-star survey: native files with their quirks, catalogues that import, and a truth that fits."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from click.testing import CliRunner
from reference.command_line import call

from stellarscale.cli import main
from stellarscale.errors import InputError
from stellarscale.flags import Flag
from stellarscale.kernels.wavelength import LIGHT_KMS
from stellarscale.schema import load_survey
from stellarscale.simulate import simulate_m_stars
from stellarscale.simulate.mmodels import MODEL_GRID
from stellarscale.simulate.mplan import BAD_KINDS, BLOCK, MStarPlan
from stellarscale.simulate.mspectra import m_star_flux
from stellarscale.surveys.read import describe

ROWS = 700


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mock")
    manifest = simulate_m_stars(rows=ROWS, seed=5, out=folder, workers=2)
    return folder, manifest, pq.read_table(folder / "truth" / "truth.parquet").to_pandas()


def rows_of(path):
    """Header, flux, inverse variance and the two masks of a file in any of the layouts."""
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus[0].header
        if len(hdus) > 1:
            names = ("FLUX", "IVAR", "ANDMASK", "ORMASK")
            return header, *(np.array(hdus["COADD"].data[name][0], dtype=float) for name in names)
        return header, *np.array(hdus[0].data, dtype=float)[[0, 1, 3, 4]]


def stored_rows(catalogue):
    """All rows of a catalogue; its thumbnail left out."""
    parts = sorted((catalogue / "dataset").rglob("Npix=*.parquet"))
    return pa.concat_tables([pq.ParquetFile(part).read() for part in parts])


def good(truth, layout):
    return truth[(truth.bad_file == "") & (truth.layout == layout)]


def test_the_manifest_counts_what_is_there(mock):
    folder, manifest, truth = mock
    assert manifest == json.loads((folder / "manifest.json").read_text()) | {
        "out": manifest["out"],
        "seconds": manifest["seconds"],
    }
    for part, count in manifest["spectra"].items():
        assert len(list((folder / part).iterdir())) == count
    assert sum(manifest["spectra"].values()) == ROWS == len(truth)
    assert sorted(manifest["bad_files"].values()) == sorted(BAD_KINDS)
    assert truth.spectrum_id.is_unique
    assert truth.obsid.is_unique
    assert truth.source_id.nunique() == manifest["stars"]
    assert all((folder / file).is_file() for file in truth.file)


@pytest.mark.parametrize("layout", ["pilot", "dr7", "dr10"])
def test_layouts_differ_as_the_releases_do(mock, layout):
    folder, _, truth = mock
    lengths, zipped = set(), set()
    for _, row in good(truth, layout).head(60).iterrows():
        header, flux, ivar, *_ = rows_of(folder / row.file)
        lengths.add(flux.size)
        zipped.add(row.file.endswith(".gz"))
        assert ("OBSID" in header) == (layout != "pilot")
        assert header["COEFF1"] == 1e-4
        assert header["VACUUM"] is True
        assert header[f"SN{'_I' if layout == 'pilot' else 'RI'}"] == pytest.approx(min(row.snr_i, 99.0), abs=0.01) or (
            layout != "pilot"
        )
        assert header["Z"] == pytest.approx(row.z)
        assert (ivar >= 0).all()
        with fits.open(folder / row.file) as hdus:
            if layout == "dr10":
                wave = hdus["COADD"].data["WAVELENGTH"][0]
                assert hdus[0].data is None
                assert hdus["COADD"].data.names[-1] == "NORMALIZATION"
            else:
                assert hdus[0].data.shape == (5, flux.size)
                wave = hdus[0].data[2]
                assert ("Wavelength" in header["EXTEN0"]) == (layout == "dr7")
        if layout == "pilot":
            assert (wave == 1).all()
        else:
            np.testing.assert_allclose(wave, 10 ** (header["COEFF0"] + 1e-4 * np.arange(flux.size)), rtol=1e-6)
    assert lengths <= set(range(3902, 3910))
    assert len(lengths) > 4
    assert zipped == {True, False}


def test_masks_and_dead_pixels_have_the_survey_s_quirks(mock):
    folder, _, truth = mock
    dead, garbage, zeros = [], 0, 0
    for _, row in truth[truth.bad_file == ""].head(300).iterrows():
        _, flux, ivar, andmask, ormask = rows_of(folder / row.file)
        assert np.isfinite(flux).all()
        assert ((andmask.astype(int) & ~ormask.astype(int)) == 0).all()
        dead.append(((ivar == 0) & (andmask == 0) & (ormask == 0)).mean())
        garbage += ((andmask > 0) & (ivar > 0)).any()
        zeros += (flux[ivar == 0] == 0).all()
    assert max(dead) > 0.12
    assert max(dead) < 0.45
    assert np.median(dead) < 0.05
    assert garbage > 60
    assert 80 < zeros < 220


def test_spectra_at_rest_are_those_of_their_labels(mock):
    folder, _, truth = mock
    bright = truth[(truth.bad_file == "") & (truth.snr_i > 60)].head(12)
    assert len(bright) == 12
    for _, row in bright.iterrows():
        header, flux, ivar, andmask, _ = rows_of(folder / row.file)
        wave = 10 ** (header["COEFF0"] + 1e-4 * np.arange(flux.size)) / (1.0 + header["Z"])
        use = (ivar > 0) & (andmask == 0) & (wave > 6000) & (wave < 8800)
        model = m_star_flux(wave[use], [row.teff], [row.logg], [row.m_h], alpha=[row.alpha], activity=[row.activity])[0]
        ratio = flux[use] / model
        smooth = np.polyval(np.polyfit(wave[use] - 7400.0, ratio, 3), wave[use] - 7400.0)
        residual = (ratio / smooth - 1.0) * row.snr_i
        assert 1.4826 * np.median(np.abs(residual)) < 3.0
        assert abs(header["Z"] * LIGHT_KMS - row.rv) < 25.0


def test_bad_files_are_bad_in_their_own_way(mock):
    folder, manifest, _ = mock
    by_kind = {kind: folder / file for file, kind in manifest["bad_files"].items()}
    content = by_kind["truncated"].read_bytes()
    if by_kind["truncated"].suffix == ".gz":
        with pytest.raises(EOFError):
            gzip.decompress(content)
    else:
        assert len(content) % 2880
    with fits.open(by_kind["wrong_layout"]) as hdus:
        assert hdus[0].data.shape[0] == 3
    assert "Z" not in fits.getheader(by_kind["no_z"])
    _, _, ivar, andmask, _ = rows_of(by_kind["all_masked"])
    assert (ivar == 0).all()
    assert (andmask > 0).all()
    assert np.median(rows_of(by_kind["negative_flux"])[1]) < 0
    header, flux, *_ = rows_of(by_kind["short_grid"])
    assert 10 ** (header["COEFF0"] + 1e-4 * flux.size) < 5300


def test_repeats_share_the_star_and_nothing_else(mock):
    _, _, truth = mock
    again = truth[truth.duplicated("source_id", keep=False)]
    for _, star in again.groupby("source_id"):
        assert star.ra.nunique() == star.teff.nunique() == star.rv.nunique() == 1
        assert star.z.nunique() == star.snr_i.nunique() == len(star)
    assert 0.3 < len(again) / len(truth) < 0.7
    assert 10 < truth.snr_i.median() < 50


def test_the_same_seed_gives_the_same_bytes_on_any_number_of_workers(tmp_path):
    rows = BLOCK + 40
    one = simulate_m_stars(rows=rows, seed=9, out=tmp_path / "one", workers=1)
    simulate_m_stars(rows=rows, seed=9, out=tmp_path / "three", workers=3)
    other = simulate_m_stars(rows=rows, seed=10, out=tmp_path / "other")
    files = sorted(p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file())
    assert len(files) > rows
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "three" / file).read_bytes(), file
    assert one["bad_files"] != other["bad_files"]


def test_every_catalogue_reads_by_its_schema(mock):
    folder, manifest, _ = mock
    assert set(manifest["surveys"]) == {
        "lamost_lrs_mstellar", "starhorse_edr3", "apogee_dr17", "ding2022", "qiu2023", "bailer_jones_edr3",
        "variables", "gaia_dr3",
    }  # fmt: skip
    for name, entry in manifest["surveys"].items():
        assert describe(folder / entry["files"][0], load_survey(name))["problem"] is None
        assert entry["rows"] > 0


@pytest.mark.filterwarnings("ignore:The unit 'Angstrom' has been deprecated")
@pytest.mark.parametrize("name", ["lamost_lrs_mstellar", "ding2022", "qiu2023"])
def test_catalogues_import_whole(mock, tmp_path, name):
    folder, manifest, truth = mock
    entry = manifest["surveys"][name]
    result = call("import", folder / entry["files"][0], "--survey", name, "--out", tmp_path / "cat")
    assert result.exit_code == 0, result.output
    stored = stored_rows(tmp_path / "cat")
    assert stored.num_rows == entry["rows"]
    ids = set(stored["source_id"].drop_null().to_pylist())
    assert ids <= set(truth.source_id)
    assert len(ids) > 10
    assert stored["teff"].null_count == stored["logg"].null_count == stored["m_h"].null_count
    assert 0 < stored["teff"].null_count < 0.1 * entry["rows"]


@pytest.mark.filterwarnings("ignore:The unit 'Angstrom' has been deprecated")
def test_spectra_import_but_for_the_bad_files(mock, tmp_path):
    folder, _, truth = mock
    result = call("import", folder / "spectra", "--survey", "lamost_spectra", "--out", tmp_path / "cat")
    assert result.exit_code == 0, result.output
    stored = stored_rows(tmp_path / "cat").select(["spectrum_id", "obsid", "quality_flags", "z"]).to_pandas()
    unreadable = truth.bad_file.isin(["truncated", "wrong_layout", "no_z", "short_grid"])
    assert set(stored.spectrum_id) == set(truth[~unreadable].spectrum_id)
    assert pq.read_metadata(tmp_path / "cat" / "rejects.parquet").num_rows == unreadable.sum() == 4
    flags = stored.set_index("spectrum_id").quality_flags
    for kind, flag in (("all_masked", Flag.MASKED_PIXELS), ("negative_flux", Flag.NOT_POSITIVE_FLUX)):
        assert flags[truth[truth.bad_file == kind].spectrum_id.iloc[0]] & flag


@pytest.mark.parametrize(
    ("name", "kind", "offset"),
    [
        ("apogee_dr17", 0, (156.0, 0.16, -0.17)),
        ("ding2022", 1, (-48.0, 0.09, -0.12)),
        ("starhorse_edr3", 1, (0.0, 0.0, 0.0)),
    ],
)
def test_catalogues_are_off_by_what_the_manifest_says(mock, name, kind, offset):
    folder, manifest, truth = mock
    native = {
        "apogee_dr17": ("GAIAEDR3_SOURCE_ID", "TEFF", "LOGG", "M_H"),
        "ding2022": ("source_id", "teff", "logg", "feh"),
        "starhorse_edr3": ("source_id", "teff50", "logg50", "met50"),
    }[name]
    data = fits.getdata(folder / manifest["surveys"][name]["files"][0])
    stars = truth.drop_duplicates("source_id").set_index("source_id")
    rows = stars.loc[data[native[0]].astype("i8")]
    said = manifest["systematics"][name]["dwarf" if kind else "giant"]
    for column, label, expected in zip(native[1:], ("teff", "logg", "m_h"), offset, strict=True):
        assert said["offset"][label] == expected
        value = data[column].astype(float)
        use = (rows["class"].to_numpy() == kind) & np.isfinite(value) & (value > -9000)
        difference = (value - rows[label].to_numpy())[use]
        error = 1.2533 * 1.5 * said["noise"][label] / np.sqrt(use.sum())
        assert np.median(difference) == pytest.approx(expected, abs=4 * error)
        wrong = rows[f"wrong_{name}"].to_numpy()[use]
        assert np.abs(difference[~wrong] - expected).max() < 7 * said["noise"][label]


def test_models_have_labels_and_the_log_linear_axis(mock):
    folder, manifest, _ = mock
    for file in manifest["models"]:
        with fits.open(folder / file) as hdus:
            header, labels = hdus[0].header, hdus["LABELS"].data
            assert hdus[0].data.shape == (len(labels), MODEL_GRID.n_pix)
            assert header["CRVAL1"] == pytest.approx(MODEL_GRID.start_dex)
            assert header["CD1_1"] == header["CDELT1"] == pytest.approx(1e-4)
            assert (header["DC-FLAG"], header["CTYPE1"], header["CRPIX1"], header["VACUUM"]) == (1, "LINEAR", 1, True)
            assert labels.names == ["teff", "logg", "m_h"]
            assert (labels["logg"].max() < 3) == ("marcs" in file)


def test_isochrones_are_a_plain_table(mock):
    folder, manifest, _ = mock
    table = np.genfromtxt(folder / manifest["isochrones"], delimiter=",", names=True)
    assert table.dtype.names == ("teff", "logg", "m_h")
    assert sorted(set(table["m_h"])) == [-0.6, -0.2, 0.2]
    assert table["logg"].min() < 0
    assert table["logg"].max() > 5


def test_variables_are_told_by_id_or_position(mock, tmp_path):
    folder, manifest, truth = mock
    file = folder / manifest["surveys"]["variables"]["files"][0]
    result = call("import", file, "--survey", "variables", "--out", tmp_path / "cat")
    assert result.exit_code == 0, result.output
    stored = stored_rows(tmp_path / "cat")
    assert stored["source_id"].null_count > 0
    assert stored["ra"].null_count == 0
    assert set(stored["source_id"].drop_null().to_pylist()) <= set(truth[truth.variable].source_id)


def test_the_command_makes_it(tmp_path):
    result = CliRunner().invoke(
        main, ["simulate", "--rows", "3", "--product", "laspm", "--out", str(tmp_path / "m"), "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["product"] == "laspm"
    assert len(list((tmp_path / "m" / "spectra").rglob("spec-*"))) == 3


@pytest.mark.parametrize("wrong", [{"rows": 0, "seed": 1}, {"rows": 5, "seed": -1}])
def test_impossible_mocks_are_refused(wrong):
    with pytest.raises(InputError):
        MStarPlan(**wrong)
