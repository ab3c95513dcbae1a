"""The stars of the mock images: where, how bright, with whom, and the surveys' labels of them."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.errors import InputError
from stellarscale.settings.stamps import BANDS, EXTINCTION
from stellarscale.simulate import dust, smss_labels
from stellarscale.simulate.gaia import parallax_error_mas
from stellarscale.simulate.smss_bands import apparent
from stellarscale.simulate.smss_plan import BLOCK, FIRST_OBJECT, ImagePlan
from stellarscale.simulate.smss_stars import draw_block

PLAN = ImagePlan(rows=8 * BLOCK + 5, seed=2)
BLOCKS = [draw_block(PLAN, block) for block in range(PLAN.blocks)]
SKY = {name: np.concatenate([sky[name] for sky in BLOCKS]) for name in BLOCKS[0]}
MAIN = SKY["slot"] == 0


def test_as_many_primaries_as_asked_for_in_the_southern_sky():
    assert MAIN.sum() == PLAN.rows
    assert SKY["dec"][MAIN].max() < 5
    assert len(np.unique(SKY["object_id"])) == len(SKY["object_id"]) == len(np.unique(SKY["source_id"]))
    assert SKY["object_id"][MAIN].tolist() == [FIRST_OBJECT + 4 * number for number in range(PLAN.rows)]


def test_primaries_are_stars_that_the_paper_would_take():
    star = {name: values[MAIN] for name, values in SKY.items()}
    assert star["true_g"].min() > 10.0
    assert star["true_g"].max() < 16.0
    assert star["teff_k"].min() > 3900
    assert star["teff_k"].max() < 8100
    relative = parallax_error_mas(star["mag_g"]) / star["parallax_mas"]
    assert (relative < 0.3).mean() > 0.9
    assert 0.15 < (star["logg"] < 3.5).mean() < 0.5
    assert (star["fe_h"] < -1).sum() >= 10
    assert (star["logg"] < 1).any()


def test_half_of_the_primaries_are_crowded_and_the_others_are_not():
    near, far = 0, 0
    for sky in BLOCKS:
        for group in range(sky["group"].max() + 1):
            rows = np.flatnonzero(sky["group"] == group)
            assert sky["slot"][rows].tolist() == list(range(len(rows)))
            east = (sky["ra"][rows] - sky["ra"][rows[0]] + 180) % 360 - 180
            apart = 3600 * np.hypot(
                east * np.cos(np.radians(sky["dec"][rows[0]])), sky["dec"][rows] - sky["dec"][rows[0]]
            )
            assert ((apart[1:] > 1.9) & (apart[1:] < 14.1) | (apart[1:] > 15.9) & (apart[1:] < 24.1)).all()
            near += len(rows) > 1 and apart[1] < 15
            far += len(rows) > 1 and apart[1] > 15
            fainter = sky["true_g"][rows[1:]] - sky["true_g"][rows[0]]
            assert (fainter > -0.25).all()
            assert (fainter < 3.05).all()
    assert 0.4 < near / PLAN.rows < 0.6
    assert 0.02 < far / PLAN.rows < 0.15


def test_magnitudes_follow_from_distance_and_reddening():
    ebv = dust.e_bv(SKY["l"], SKY["b"], SKY["distance_pc"])
    assert SKY["ebv"] == pytest.approx(ebv)
    assert SKY["parallax_mas"] == pytest.approx(1000 / SKY["distance_pc"])
    for band in BANDS:
        assert SKY[f"true_{band}"] == pytest.approx(apparent(SKY[f"sm_{band}"], band, SKY["distance_pc"], ebv))
    assert EXTINCTION["u"] > EXTINCTION["z"]


@pytest.mark.parametrize(("rows", "seed"), [(0, 1), (2_000_000, 1), (10, -1)])
def test_sizes_and_seeds_that_cannot_be_are_refused(rows, seed):
    with pytest.raises(InputError):
        ImagePlan(rows=rows, seed=seed)


def test_galah_labels_most_of_the_bright_primaries():
    rows = smss_labels.galah_rows(SKY, np.random.default_rng(1))
    bright = MAIN & (SKY["true_g"] < 15)
    assert 0.8 < len(rows) / bright.sum() < 1.0
    star = {int(source): place for place, source in enumerate(SKY["source_id"])}
    of = np.array([star[int(source)] for source in rows["dr3_source_id"]])
    assert bright[of].all()
    good = (rows["flag_sp"] == 0) & (rows["snr_c3_iraf"] > 30)
    assert 0.6 < good.mean() < 1.0
    pull = (rows["teff"] - SKY["teff_k"][of])[good] / rows["e_teff"][good]
    assert 0.8 < pull.std() < 1.25
    assert np.isnan(rows["teff"][rows["flag_sp"] == 1024]).all()
    assert len(np.unique(rows["sobject_id"])) == len(rows)


def test_the_catalogues_to_compare_with_have_larger_errors():
    rng = np.random.default_rng(1)
    apogee, (lsp3, n) = smss_labels.apogee_rows(SKY, rng), smss_labels.lsp3_rows(SKY, rng)
    assert 0.08 < len(apogee) / PLAN.rows < 0.25
    assert 0.08 < n / PLAN.rows < 0.25
    galah = smss_labels.galah_rows(SKY, rng)
    assert np.nanmedian(galah["e_teff"]) < np.nanmedian(apogee["TEFF_ERR"]) < np.median(lsp3["teff_err"].to_numpy())
    assert set(smss_labels.described()) == {"galah_dr3", "apogee_dr17", "lamost_lsp3"}
