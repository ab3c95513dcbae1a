"""SkyMapper DR4's tables under the names of its TAP service, and LSP3's."""

from __future__ import annotations

from pathlib import Path

import pytest
from astropy.time import Time

from stellarscale.flags import Flag
from stellarscale.schema import load_survey
from stellarscale.surveys.read import inspect, read_batches


def read(path: Path, survey: str, text: str):
    path.write_text(text)
    schema = load_survey(survey)
    return next(read_batches(path, schema, inspect(path, schema))).table


def test_the_master_table_of_tap(tmp_path):
    bands = "uvgriz"
    names = ["object_id", "raj2000", "dej2000", "mean_epoch", "glat", "flags", "class_star", "ebmv_sfd", "gaia_dr3_id1"]
    names += ["gaia_dr3_dist1", "self_dist1", "cnt_self_15", *(f"{b}_ngood" for b in bands)]
    names += [name for b in bands for name in (f"{b}_psf", f"e_{b}_psf")]
    first = [
        "300000007",
        "200.5",
        "-45.25",
        "57400.5",
        "17.0",
        "0",
        "0.98",
        "0.05",
        "4295806720123456789",
        "0.2",
        "",
        "0",
    ]
    second = ["300000008", "200.6", "-45.25", "", "17.0", "4", "0.5", "0.05", "", "", "7.5", "2"]
    rest = [*["3"] * 6, *["15.25", "0.01"] * 6]
    text = "\n".join(",".join(row) for row in (names, [*first, *rest], [*second, *rest])) + "\n"
    table = read(tmp_path / "master.csv", "skymapper_dr4", text)
    rows = table.to_pylist()
    assert rows[0]["object_id"] == 300000007
    assert rows[0]["gaia_dr3_id"] == 4295806720123456789
    assert rows[0]["epoch_yr"] == pytest.approx(Time(57400.5, format="mjd", scale="tt").jyear, abs=1e-6)
    assert rows[1]["epoch_yr"] is None  # the schema's year then counts where positions are moved
    assert (rows[0]["self_dist_arcsec"], rows[1]["self_dist_arcsec"]) == (None, 7.5)
    assert rows[1]["n_within_15"] == 2
    assert rows[0]["z_mag"] == 15.25
    assert [row["quality_flags"] for row in rows] == [0, int(Flag.SURVEY_FLAG)]
    assert "mean_epoch" not in table.column_names


def test_detections_are_numbered_and_keep_long_numbers(tmp_path):
    text = (
        "object_id,image_id,ccd,filter,ra_img,decl_img,mag_psf,e_mag_psf,flags,nimaflags,use_in_clipped,x_img,y_img\n"
        "300000007,20140425124821,17,r,200.5,-45.25,14.5,0.01,0,0,1,100.5,200.5\n"
        "300000007,20140425125021,17,g,200.5,-45.25,14.9,0.01,4,0,0,100.5,200.5\n"
    )
    rows = read(tmp_path / "photometry.csv", "skymapper_dr4_photometry", text).to_pylist()
    assert [row["detection_id"] for row in rows] == [0, 1]
    assert [row["image_id"] for row in rows] == [20140425124821, 20140425125021]
    assert [(row["ccd"], row["band"], row["use_in_clipped"]) for row in rows] == [(17, "r", 1), (17, "g", 0)]
    assert [row["quality_flags"] for row in rows] == [0, int(Flag.SURVEY_FLAG)]


@pytest.mark.parametrize("place", ["", ",ra,decl"])
def test_exposures_with_and_without_a_place(tmp_path, place):
    values = ",200.5,-45.25" if place else ""
    text = (
        f"image_id,filter,date,exp_time,background,zpapprox,fwhm{place}\n"
        f"20140425124821,r,56772.5,100,52.5,28.4,2.5{values}\n"
    )
    row = read(tmp_path / "images.csv", "skymapper_dr4_images", text).to_pylist()[0]
    assert row["image_id"] == 20140425124821
    assert (row["band"], row["mjd"], row["exptime_s"]) == ("r", 56772.5, 100.0)
    assert (row["background"], row["fwhm_arcsec"]) == (52.5, 2.5)
    assert row["zpapprox"] == pytest.approx(28.4)
    if place:
        assert (row["ra"], row["dec"]) == (200.5, -45.25)


def test_lsp3_under_several_names(tmp_path):
    text = (
        "spec_id,ra,dec,snr,teff,e_teff,logg,[Fe/H]\n"
        "spec-1,10,-5,40,5500,80,4.2,-0.3\n"
        "spec-2,11,-5,40,-9999,80,4.2,-0.3\n"
    )
    rows = read(tmp_path / "lsp3.csv", "lamost_lsp3", text).to_pylist()
    assert (rows[0]["spec_id"], rows[0]["teff"], rows[0]["teff_err"]) == ("spec-1", 5500.0, 80.0)
    assert rows[0]["fe_h"] == pytest.approx(-0.3)
    assert rows[1]["teff"] is None
