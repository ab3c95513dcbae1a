"""Margins: a match of the sky piece by piece gives the rows of the whole; a field of real stars."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.match_tables import BY_ROW, CONFIGS, KEEPS, MOVING, PLAIN, TO_YEAR, right_of, sky_table, stars, with_

from stellarscale.errors import ConfigError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.sphere import separation_arcsec
from stellarscale.partition.match import MatchConfig, SkyColumns, margin_arcsec, match_partition

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "crossmatch"


def matched_ids(table):
    return sorted(zip(*(table[name].to_pylist() for name in ("id", "r_id", "separation_arcsec")), strict=True))


def test_margin_of_positions_at_rest_is_the_radius_with_a_safety():
    assert margin_arcsec(PLAIN, None, None, None, None) == pytest.approx(1.01 + 0.1)
    moving_columns_unused = with_(PLAIN, left=MOVING)
    assert margin_arcsec(moving_columns_unused, 1e4, None, (2016.0, 2016.0), None) == pytest.approx(1.11)


def test_margin_grows_with_the_motion_of_the_side_that_moves():
    at = (2016.0, 2016.0)
    assert margin_arcsec(TO_YEAR, 1e4, 0.0, at, None) == pytest.approx(1.01 * 161.0 + 0.1)
    assert margin_arcsec(BY_ROW, 1e4, 9e9, at, (1997.0, 2020.0)) == pytest.approx(1.01 * 191.0 + 0.1)
    both = CONFIGS["year, both move"]
    assert margin_arcsec(both, 1e3, 2e3, at, (2000.0, 2012.0)) == pytest.approx(1.01 * 27.0 + 0.1)
    right_moves = CONFIGS["rows, right moves"]
    assert margin_arcsec(right_moves, 9e9, 1e3, (1990.0, 2000.0), at) == pytest.approx(1.01 * 27.0 + 0.1)


def test_margin_counts_the_epoch_of_rows_without_one():
    config = with_(BY_ROW, right=SkyColumns(epoch="epoch", epoch_yr=1950.0))
    assert margin_arcsec(config, 1e3, None, None, (1999.0, 2000.0)) == pytest.approx(1.01 * 67.0 + 0.1)


def test_margin_needs_what_it_reads():
    with pytest.raises(ConfigError, match="largest motion"):
        margin_arcsec(TO_YEAR, None, None, (2016.0, 2016.0), None)
    with pytest.raises(ConfigError, match="largest motion"):
        margin_arcsec(BY_ROW, 1.0, None, (2016.0, 2016.0), None)


def distances(one, other):
    """Separations of all rows of one table from all of another, raw positions."""
    columns = [table[name].to_numpy() for table in (one, other) for name in ("ra", "dec")]
    return separation_arcsec(columns[0][:, None], columns[1][:, None], columns[2][None, :], columns[3][None, :])


def piecewise(left, right, config, order):
    """Match pixel by pixel with borders, as the engine does it."""

    def motion(table):
        speed = np.hypot(table["pmra"].to_numpy(), table["pmdec"].to_numpy())
        return float(np.nanmax(speed, initial=0.0))

    epochs = [
        (np.min(table["epoch"].to_numpy()), np.max(table["epoch"].to_numpy())) if sky.epoch else (2016.0, 2016.0)
        for table, sky in ((left, config.left), (right, config.right))
    ]
    margin = margin_arcsec(config, motion(left), motion(right), *epochs)
    pixels = pixel_of(left["ra"].to_numpy(), left["dec"].to_numpy(), order)
    to_right, to_left = distances(left, right), distances(left, left)
    pieces = []
    for pixel in np.unique(pixels):
        inside = pixels == pixel
        near = (to_right[inside] <= margin).any(axis=0)
        border = (to_left[inside] <= 2.0 * margin).any(axis=0) & ~inside
        rows = [table.filter(pa.array(mask)) for table, mask in ((left, inside), (right, near), (left, border))]
        pieces.append(match_partition(*rows, config))
    assert len(pieces) > 3
    return pa.concat_tables(pieces)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 2**31),
    st.sampled_from(sorted(CONFIGS)),
    st.sampled_from(KEEPS),
    st.sampled_from(["inner", "left"]),
    st.sampled_from([(0.0, 90.0), (0.0, 0.0), (45.0, 41.8), (100.0, -89.995)]),
)
def test_pieces_of_the_sky_give_the_same_rows_as_the_whole(seed, name, keep, how, centre):
    config = with_(CONFIGS[name], keep=keep, how=how, radius_arcsec=4.0)
    left = stars(seed, 250, centre)
    right = right_of(left, seed + 1)
    whole = match_partition(left, right, None, config)
    pieces = piecewise(left, right, config, order=14)
    key = [("id", "ascending"), ("separation_arcsec", "ascending"), ("r_id", "ascending")]
    assert pieces.sort_by(key).equals(whole.sort_by(key))


def test_equal_rows_are_mutual_alike_in_pieces_and_in_the_whole():
    """Left rows in one place, and left rows equally far from their right row, north and south of it."""
    apart = 1.0 / 3600.0
    ra = np.repeat(np.linspace(0.0, 0.05, 40), 3)
    dec = np.tile([apart, -apart, -apart], 40)
    left = sky_table(ra, dec, pmra=np.zeros(120), pmdec=np.zeros(120), epoch=np.full(120, 2016.0))
    right = sky_table(ra[::3], np.zeros(40), pmra=np.zeros(40), pmdec=np.zeros(40), epoch=np.full(40, 2016.0))
    config = with_(PLAIN, keep="mutual", radius_arcsec=1.5)
    whole = match_partition(left, right, None, config)
    assert whole.num_rows == 40
    assert (whole["dec"].to_numpy() < 0).all()
    assert matched_ids(piecewise(left, right, config, order=16)) == matched_ids(whole)


def test_without_its_border_a_mutual_match_would_differ():
    left = sky_table([10.0, 10.0], [0.0, 1.0 / 3600.0])
    right = sky_table([10.0], [0.8 / 3600.0])
    config = with_(PLAIN, keep="mutual", radius_arcsec=2.0)
    south, north = left.slice(0, 1), left.slice(1, 1)
    assert match_partition(south, right, None, config).num_rows == 1
    out = match_partition(south, right, north, config)
    assert out.num_rows == 0
    assert match_partition(north, right, south, config).num_rows == 1
    outer = match_partition(south, right, north, with_(config, how="left"))
    assert outer["n_candidates"].to_pylist() == [1]


def test_only_the_sky_of_the_border_is_read():
    left = stars(15, 50)
    border = left.select(["ra", "dec"])
    out = match_partition(left.slice(0, 25), left, border.slice(25), with_(PLAIN, keep="mutual"))
    assert out["r_id"].to_pylist() == list(range(25))


@pytest.mark.parametrize("keep", ["nearest", "all"])
def test_the_border_is_for_mutual_matches_only(keep):
    left = stars(16, 50)
    config = with_(PLAIN, keep=keep)
    unreadable = pa.table({"nothing": [1]})
    assert match_partition(left, left, unreadable, config).equals(match_partition(left, left, None, config))


@pytest.fixture(scope="module")
def ngc188():
    """Gaia and 2MASS in the field of NGC 188."""
    if not DATA.is_dir():
        pytest.skip("the shared data set with NGC 188 is not beside the repository")
    from astropy.table import Table

    gaia = Table.read(DATA / "ngc188_gaia_results.fits", unit_parse_strict="silent")
    twomass = Table.read(DATA / "ngc188_2MASS_results.ecsv")

    def column(table, name):
        return pa.array(np.ma.filled(np.ma.asarray(table[name]).astype(float), np.nan), from_pandas=True)

    return (
        pa.table({name: column(gaia, name) for name in ("ra", "dec", "pmra", "pmdec")}),
        pa.table({"ra": column(twomass, "RAJ2000"), "dec": column(twomass, "DEJ2000")}),
    )


@pytest.mark.parametrize(
    "epoch, there, back, mutual, pairs, median",
    [(None, 4163, 4126, 4125, 4164, 0.1619), (1999.8, 4178, 4141, 4140, 4179, 0.1237)],
)
def test_ngc188_gives_the_numbers_that_astropy_gave(ngc188, epoch, there, back, mutual, pairs, median):
    gaia, twomass = ngc188
    config = MatchConfig(1.0, epoch=epoch, right_prefix="r_", left=with_(MOVING, id=None), right=SkyColumns())
    turned = with_(config, left=config.right, right=config.left)
    counts = {keep: match_partition(gaia, twomass, None, with_(config, keep=keep)) for keep in KEEPS}
    assert {keep: table.num_rows for keep, table in counts.items()} == {
        "nearest": there,
        "all": pairs,
        "mutual": mutual,
    }
    assert np.median(counts["mutual"]["separation_arcsec"]) == pytest.approx(median, abs=5e-5)
    assert match_partition(twomass, gaia, None, turned).num_rows == back
    if epoch is not None:
        assert 0 < sum(counts["nearest"]["no_motion"].to_pylist()) < 200
