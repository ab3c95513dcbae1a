"""A whole mock sky, reopened by other people's readers and compared with its manifest and its truth."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from stellarscale.simulate import gaia, galaxy, galex, simulate_sky, spectra, twomass
from stellarscale.simulate.observe import displace, year_of_mjd

ROWS = 6000


@pytest.fixture(scope="module")
def mock(tmp_path_factory):
    out = tmp_path_factory.mktemp("sky")
    return out, simulate_sky(rows=ROWS, seed=3, out=out, chunk_rows=2000)


@pytest.fixture(scope="module")
def truth(mock):
    table = pq.read_table(mock[0] / "truth" / "truth.parquet")
    # A null would make pandas turn 64-bit ids into floats.
    ids = table["source_id"].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return table.to_pandas().assign(source_id=ids)


def read_gaia(path: Path) -> pd.DataFrame:
    with gzip.open(path, "rt") as stream:
        header = sum(line.startswith("#") for line in stream)
    table = pc.read_csv(
        path,
        read_options=pc.ReadOptions(skip_rows=header),
        convert_options=pc.ConvertOptions(null_values=["null"], strings_can_be_null=True),
    )
    return table.to_pandas()


@pytest.fixture(scope="module")
def gaia_rows(mock):
    return pd.concat([read_gaia(mock[0] / name) for name in mock[1]["surveys"]["gaia_dr3"]["files"]])


@pytest.fixture(scope="module")
def psc(mock):
    names = mock[1]["surveys"]["twomass_psc"]["files"]
    options = {
        "sep": "|",
        "header": None,
        "names": twomass.COLUMN_NAMES,
        "na_values": ["\\N"],
        "keep_default_na": False,
    }
    # Flag strings such as 000 are not numbers.
    text = dict.fromkeys(("ph_qual", "rd_flg", "bl_flg", "cc_flg", "ndet", "designation"), str)
    return pd.concat([pd.read_csv(mock[0] / name, dtype=text, **options) for name in names])


@pytest.fixture(scope="module")
def sages_rows(mock):
    return fits.getdata(mock[0] / "sages" / "dr1-uv.fits", 1)


def digest(folder):
    files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_seed_gives_the_same_bytes_whatever_the_workers(tmp_path):
    for name, seed, workers in (("a", 1, 1), ("b", 1, 3), ("c", 2, 1)):
        simulate_sky(rows=1500, seed=seed, out=tmp_path / name, workers=workers, chunk_rows=400)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert a["truth/truth.parquet"] != c["truth/truth.parquet"]


@pytest.mark.parametrize("rows", [1, 7, 150])
def test_tiny_skies_are_whole(tmp_path, rows):
    summary = simulate_sky(rows=rows, seed=0, out=tmp_path)
    assert pq.read_metadata(tmp_path / "truth" / "truth.parquet").num_rows == rows
    assert len(fits.getdata(tmp_path / "sages" / "dr1-uv.fits", 1)) == summary["surveys"]["sages_dr1"]["rows"]
    assert all(not any(s["expected_rejects"].values()) for s in summary["surveys"].values())


def test_progress_counts_the_stars(tmp_path):
    seen = []
    simulate_sky(rows=900, seed=0, out=tmp_path, chunk_rows=400, progress=lambda *n: seen.append(n))
    assert seen == [(400, 900), (800, 900), (900, 900)]


def test_manifest_is_the_summary_and_names_real_files(mock):
    out, summary = mock
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest == {key: value for key, value in summary.items() if key not in ("out", "seconds")}
    assert set(manifest["surveys"]) == {
        "sages_dr1", "gaia_dr3", "twomass_psc", "allwise", "galex_guvcat", "lamost_lrs_stellar",
        "apogee_dr17", "rave_dr5", "pastel", "vmp_papers", "huang2023", "andrae2023",
    }  # fmt: skip
    for survey in manifest["surveys"].values():
        assert len(survey["files"]) == len(survey["rows_per_file"])
        assert sum(survey["rows_per_file"]) == survey["rows"]
        assert all((out / name).is_file() for name in survey["files"])
    assert all((out / name).is_file() for name in manifest["dust"])


def test_rows_in_the_files_are_those_of_the_manifest(mock, gaia_rows, psc, sages_rows):
    out, summary = mock
    surveys = summary["surveys"]
    assert len(gaia_rows) == surveys["gaia_dr3"]["rows"]
    assert len(psc) == surveys["twomass_psc"]["rows"]
    assert len(sages_rows) == surveys["sages_dr1"]["rows"]
    for name in ("galex_guvcat", "lamost_lrs_stellar", "apogee_dr17", "huang2023"):
        assert len(fits.getdata(out / surveys[name]["files"][0], 1)) == surveys[name]["rows"]
    wise = sum(pq.read_metadata(out / name).num_rows for name in surveys["allwise"]["files"])
    assert wise == surveys["allwise"]["rows"]
    for name in ("rave_dr5", "pastel", "vmp_papers", "andrae2023"):
        assert len(pd.read_csv(out / surveys[name]["files"][0])) == surveys[name]["rows"]


def test_every_survey_sees_its_share(mock):
    share = {name: survey["rows"] / ROWS for name, survey in mock[1]["surveys"].items()}
    assert 0.9 < share["sages_dr1"] < 0.98
    assert 0.95 < share["gaia_dr3"] < 0.99
    assert 0.75 < share["twomass_psc"] < 0.92
    assert 0.7 < share["allwise"] < 0.92
    assert 0.1 < share["galex_guvcat"] < 0.3
    assert 0.3 < share["lamost_lrs_stellar"] < 0.42
    assert 0.005 < share["apogee_dr17"] < 0.02
    assert 0.005 < share["rave_dr5"] < 0.02


def test_truth_is_complete_and_keyed(truth, gaia_rows, sages_rows):
    assert truth.star_id.tolist() == list(range(ROWS))
    assert truth[["ra", "dec", "teff_k", "logg", "fe_h", "ebv", "abs_nuv"]].notna().all(axis=None)
    assert set(truth["class"]) == {0, 1, 2, 3}
    assert truth.cluster.notna().sum() == 4 * 60
    known = truth.source_id.dropna().astype("int64")
    assert set(known) == set(gaia_rows.source_id)
    assert set(truth.sage_id.dropna()) <= set(sages_rows["SAGE_ID"])


def test_gaia_ids_need_all_64_bits_and_are_unique(truth, gaia_rows):
    assert gaia_rows.source_id.dtype == np.int64
    assert gaia_rows.source_id.is_unique
    assert (gaia_rows.source_id > 2**53).mean() > 0.99
    assert gaia_rows.designation.iloc[0] == f"Gaia DR3 {gaia_rows.source_id.iloc[0]}"
    assert gaia_rows.random_index.is_unique


def test_gaia_header_is_ecsv_that_astropy_reads(mock):
    path = mock[0] / mock[1]["surveys"]["gaia_dr3"]["files"][0]
    table = Table.read(path, format="ascii.ecsv", fill_values=[("null", "0")])
    assert table["ra"].unit == "deg"
    assert table["source_id"].dtype == np.int64
    assert table["parallax"].mask.any()


def test_gaia_nulls_negative_parallaxes_and_booleans(gaia_rows):
    assert (gaia_rows.parallax < 0).mean() > 0.005
    two = gaia_rows.astrometric_params_solved == 3
    assert 0.005 < two.mean() < 0.06
    assert gaia_rows.loc[two, ["parallax", "pmra", "pmdec", "ruwe"]].isna().all(axis=None)
    assert gaia_rows.loc[~two, ["parallax", "pmra", "pmdec", "ruwe"]].notna().all(axis=None)
    assert gaia_rows.radial_velocity.isna().mean() > 0.5
    assert gaia_rows.duplicated_source.astype(str).isin(["True", "False"]).all()


def test_gaia_fluxes_agree_with_magnitudes(gaia_rows):
    for band, zero in gaia.ZERO_POINT.items():
        magnitude = zero - 2.5 * np.log10(gaia_rows[f"phot_{band}_mean_flux"])
        assert np.nanmax(np.abs(magnitude - gaia_rows[f"phot_{band}_mean_mag"])) < 1e-5
    colour = gaia_rows.phot_bp_mean_mag - gaia_rows.phot_rp_mean_mag
    assert np.nanmax(np.abs(colour - gaia_rows.bp_rp)) < 2e-6


def test_gaia_errors_describe_the_scatter(truth, gaia_rows):
    both = gaia_rows.merge(truth[truth.source_id.notna()].astype({"source_id": "int64"}), on="source_id")
    pull = (both.parallax - both.parallax_mas) / both.parallax_error
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05)
    pull = (both.pmra_x - both.pmra_y) / both.pmra_error
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.05)
    single = both[both.companion_of.isna()]
    true_g = single.abs_g + 5 * np.log10(single.distance_pc) - 5 + 2.364 * single.ebv
    sigma = 1.0857 * single.phot_g_mean_flux_error / single.phot_g_mean_flux
    assert np.median(np.abs(single.phot_g_mean_mag - true_g) / sigma) == pytest.approx(0.674, abs=0.05)


def test_sages_sentinels_flags_and_duplicates(mock, sages_rows):
    for band in "UV":
        missing = sages_rows[f"MAG_{band}"] == -999
        assert missing.any()
        assert (sages_rows[f"ERR_{band}"][missing] == -999).all()
        assert (sages_rows[f"FLAG_{band}"] != 0).mean() > 0.01
    ids, counts = np.unique(sages_rows["SAGE_ID"], return_counts=True)
    assert (counts - 1).sum() == mock[1]["surveys"]["sages_dr1"]["duplicate_ids"] >= 2
    repeated = sages_rows[sages_rows["SAGE_ID"] == ids[counts > 1][0]]
    assert str(repeated[0]) == str(repeated[1])


def test_bad_rows_are_those_the_manifest_expects(mock, sages_rows, psc):
    surveys = mock[1]["surveys"]
    nan = np.isnan(sages_rows["RA"])
    rejects = surveys["sages_dr1"]["expected_rejects"]
    assert nan.sum() == rejects["position_not_finite"] == 2
    assert (np.abs(sages_rows["DEC"][~nan]) > 90).sum() == rejects["declination_out_of_range"] == 2
    rejects = surveys["twomass_psc"]["expected_rejects"]
    assert psc.ra.isna().sum() == psc.decl.isna().sum() == rejects["position_null"] == 2
    assert (psc.decl > 90).sum() == rejects["declination_out_of_range"] == 2
    assert psc.pts_key.is_unique


def matched(truth, ids, ra, dec, year):
    """Separation (arcsec) of observed positions from the truth carried to a year, and left at 2016."""
    star = truth.set_index("star_id").loc[ids]
    motion = {"pmra": star.pmra.to_numpy(), "pmdec": star.pmdec.to_numpy()}
    moved = displace(star.ra.to_numpy(), star.dec.to_numpy(), **motion, years=np.asarray(year) - 2016.0)
    observed = galaxy.unit_vector(ra, dec)
    still = galaxy.unit_vector(star.ra.to_numpy(), star.dec.to_numpy())
    apart = [np.linalg.norm(observed - v, axis=1) for v in (galaxy.unit_vector(*moved), still)]
    return np.degrees(apart[0]) * 3600, np.degrees(apart[1]) * 3600, np.hypot(*motion.values()) / 1000


def test_sages_positions_are_at_their_epoch(truth, sages_rows):
    star_id = np.array([int(name[5:]) for name in sages_rows["SAGE_ID"]])
    good = (star_id < ROWS) & np.isfinite(sages_rows["RA"]) & (np.abs(sages_rows["DEC"]) < 90)
    rows, star_id = sages_rows[good], star_id[good]
    year = year_of_mjd((rows["OBS_TIME_U"] + rows["OBS_TIME_V"]) / 2.0)
    assert year.min() > 2015.0
    assert year.max() < 2021.0
    moved, still, speed = matched(truth, star_id, rows["RA"], rows["DEC"], year)
    fast = speed > 0.4
    assert fast.sum() >= 2
    assert np.median(moved) == pytest.approx(0.07 * 1.18, rel=0.1)
    assert np.median(moved[fast]) < 0.3 < np.median(still[fast])


def test_twomass_positions_are_at_their_own_night(truth, psc):
    good = psc[psc.ra.notna() & (psc.decl < 90)]
    year = 2000.0 + (good.jdate - 2451545.0) / 365.25
    assert year.between(1997, 2001.2).all()
    star_id = good.pts_key.to_numpy() - 10_000_000
    moved, still, speed = matched(truth, star_id, good.ra.to_numpy(), good.decl.to_numpy(), year.to_numpy())
    fast = speed > 0.3
    np.testing.assert_allclose(still[fast], (speed * (2016.0 - year.to_numpy()))[fast], atol=6.0, rtol=0.05)
    assert np.median(moved[fast]) < 0.2 < 5.0 < np.median(still[fast])
    nights = pd.to_datetime(good.date)
    assert np.abs((nights - pd.Timestamp("2000-01-01")).dt.days - (good.jdate - 2451544.5)).max() < 1.001


def test_twomass_has_sixty_columns_nulls_and_upper_limits(mock, psc):
    with gzip.open(mock[0] / "twomass" / "psc_aaa.gz", "rt") as stream:
        line = stream.readline().rstrip("\n")
    assert len(line.split("|")) == 60
    assert "\\N" in line
    assert psc.ext_key.isna().all()
    limit = psc.ph_qual.str[2] == "U"
    assert 0.02 < limit.mean() < 0.7
    assert psc.loc[limit, "k_m"].notna().all()
    assert psc.loc[limit, ["k_cmsig", "k_msigcom", "k_snr"]].isna().all(axis=None)
    assert psc.loc[~limit, "k_msigcom"].notna().all()
    assert (psc.rd_flg.str[2] == "0").sum() == limit.sum()


def test_allwise_limits_flags_and_apparent_motions(mock, truth):
    table = pq.read_table([mock[0] / n for n in mock[1]["surveys"]["allwise"]["files"]]).to_pandas()
    limit = table.ph_qual.str[1] == "U"
    assert 0.005 < limit.mean() < 0.6
    assert table.loc[limit, "w2sigmpro"].isna().all()
    assert table.loc[limit, "w2mpro"].notna().all()
    assert table.w1sigmpro.notna().all()
    assert table.cntr.is_unique
    assert (table.cc_flags != "0000").any()
    assert table.pmra.dtype == np.int64
    star = truth.set_index("star_id").loc[table.cntr % 10**9]
    assert np.median(np.abs(table.pmra.to_numpy() - star.pmra.to_numpy())) > 20.0


def test_galex_has_every_column_and_sentinel(mock):
    data = fits.getdata(mock[0] / "galex" / "GUVcat_AIS.fits", 1)
    assert data.dtype.names == ("objid", *galex.COLUMN_NAMES)
    assert len(set(galex.COLUMN_NAMES)) == 96
    assert (data["nuv_mag"] == -999).any()
    assert (data["nuv_magerr"] == -9999).any()
    assert (data["nuv_mag_aper_4"] == -99).any()
    assert (data["nuv_mag_aper_6"] == 99).any()
    assert (data["fuv_mag"] == -999).mean() > 0.5
    assert (data["nuv_artifact"] != 0).any()
    assert (data["e_bv"] > 0).all()
    good = data["nuv_mag"] > -99
    assert np.median(data["nuv_mag"][good]) < 22


def test_lamost_rows_join_by_a_string_and_scatter_by_their_errors(mock, truth):
    table = Table.read(mock[0] / "lamost" / "dr10_v2.0_LRS_stellar.fits.gz").to_pandas()
    assert table.obsid.is_unique
    assert 0.01 < table.uid.duplicated().mean() < 0.08
    ids = table.gaia_source_id.fillna(b"").str.decode("ascii")
    assert (ids == "").any()
    assert (table.teff == -9999).any()
    assert set(table["class"]) == {b"STAR"}
    good = table[(ids != "") & (table.teff > 0)].assign(source_id=ids[ids != ""].astype("int64"))
    joined = good.merge(truth.dropna(subset="source_id").astype({"source_id": "int64"}), on="source_id")
    assert len(joined) > 0.9 * len(good)
    for name, true, typical in (("teff", "teff_k", 60.0), ("feh", "fe_h", 0.07)):
        error = joined[f"{name}_err"]
        assert np.std((joined[name] - joined[true]) / error) == pytest.approx(1.0, abs=0.12)
        assert 0.5 * typical < error.median() < 2.0 * typical


def test_lamost_prefers_bright_stars(mock, truth):
    data = fits.getdata(mock[0] / "lamost" / "dr10_v2.0_LRS_stellar.fits.gz", 1)
    apparent = truth.abs_g + 5 * np.log10(truth.distance_pc) - 5 + 2.364 * truth.ebv
    assert np.median(data["gaia_g_mean_mag"]) < np.median(apparent) - 0.2
    assert data.dtype.names == spectra.LAMOST_DTYPE.names


def test_apogee_is_upper_case_with_vectors_and_flags(tmp_path):
    simulate_sky(rows=20_000, seed=8, out=tmp_path, chunk_rows=20_000)
    data = fits.getdata(tmp_path / "apogee" / "allStar-dr17-synspec_rev1.fits", 1)
    assert all(name == name.upper() for name in data.dtype.names)
    assert data["PARAM"].shape == (len(data), 9)
    failed = (data["ASPCAPFLAG"] & (1 << 23)) != 0
    assert failed.any()
    assert np.isnan(data["TEFF"][failed]).all()
    assert np.isfinite(data["TEFF"][~failed]).all()
    assert (data["GAIAEDR3_PARALLAX"] == -9999).any()
    assert (data["STARFLAG"] != 0).any()
    assert (data["EXTRATARG"] & 16).any()
    assert (data["GAIAEDR3_SOURCE_ID"] > 2**53).any()
    rave = pd.read_csv(tmp_path / "rave" / "RAVE_DR5.csv.gz")
    assert list(rave.columns) == spectra.RAVE_COLUMNS
    assert set(rave.Algo_Conv_K) == {0, 1, 2}
    assert rave.Teff_N_K.isna().any()


def test_file_names_are_native(mock):
    names = {Path(n).name for survey in mock[1]["surveys"].values() for n in survey["files"]}
    assert {"dr1-uv.fits", "psc_aaa.gz", "psc_aac.gz", "dr10_v2.0_LRS_stellar.fits.gz"} <= names
    assert sum(name.startswith("GaiaSource_") and name.endswith(".csv.gz") for name in names) == 3


def test_a_sky_of_one_chunk_has_two_gaia_files(tmp_path):
    summary = simulate_sky(rows=100, seed=0, out=tmp_path)
    assert len(summary["surveys"]["gaia_dr3"]["files"]) == 2


def test_damaged_sky_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one star"):
        simulate_sky(rows=0, seed=0, out=tmp_path)


def test_spectroscopic_positions_are_of_j2000(mock, truth):
    data = fits.getdata(mock[0] / "lamost" / "dr10_v2.0_LRS_stellar.fits.gz", 1)
    star_id = np.array([int(name[1:]) for name in data["uid"]])
    moved, _, _ = matched(truth, star_id, data["ra"], data["dec"], np.full(len(data), 2000.0))
    assert moved.max() < 1e-5


def test_gaia_colour_terms_of_the_parallax_correction(gaia_rows):
    five, six = gaia_rows.astrometric_params_solved == 31, gaia_rows.astrometric_params_solved == 95
    assert gaia_rows.nu_eff_used_in_astrometry.notna().equals(five)
    assert gaia_rows.pseudocolour.notna().equals(six)
    assert gaia_rows.loc[five, "nu_eff_used_in_astrometry"].between(1.0, 1.95).all()
    assert gaia.ecliptic_latitude(np.array([270.0]), np.array([66.5607089]))[0] == pytest.approx(90.0, abs=1e-4)
