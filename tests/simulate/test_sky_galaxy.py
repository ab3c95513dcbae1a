"""Positions, motions, dust, epochs, noise and blends of the mock sky."""

from __future__ import annotations

import numpy as np
import pytest

from stellarscale.errors import InputError
from stellarscale.simulate import dust, galaxy, observe
from stellarscale.simulate.plan import SkyPlan
from stellarscale.simulate.sky import draw_stars


@pytest.fixture(scope="module")
def sky():
    return draw_stars(SkyPlan(rows=20_000, seed=5, chunk_rows=20_000), 0)


def test_galactic_coordinates_agree_with_astropy():
    coordinates = pytest.importorskip("astropy.coordinates")
    ra, dec = np.array([0.0, 10.0, 266.4, 192.859, 359.9]), np.array([-89.0, 5.0, -28.9, 20.0, 89.9])
    l_deg, b_deg = galaxy.equatorial_to_galactic(ra, dec)
    expected = coordinates.SkyCoord(ra, dec, unit="deg").galactic
    np.testing.assert_allclose(b_deg, expected.b.deg, atol=1e-5)
    np.testing.assert_allclose((l_deg - expected.l.deg + 180) % 360 - 180, 0.0, atol=2e-4)
    back = galaxy.galactic_to_equatorial(l_deg, b_deg)
    np.testing.assert_allclose(back[0], ra, atol=1e-9)
    np.testing.assert_allclose(back[1], dec, atol=1e-9)


def test_longitudes_stay_below_360():
    longitude, _ = galaxy.spherical(np.array([[1.0, -1e-18, 0.0], [1.0, 0.0, 0.0], [-1.0, -1e-18, 0.0]]))
    assert (longitude >= 0).all()
    assert (longitude < 360).all()


def test_halo_takes_over_far_away():
    rng = np.random.default_rng(0)
    near = galaxy.draw_population(np.full(5000, 200.0), rng)
    far = galaxy.draw_population(np.full(5000, 30000.0), rng)
    assert (near == galaxy.THIN).mean() > 0.8
    assert (far == galaxy.HALO).mean() > 0.6


def test_discs_hug_the_plane_and_the_halo_does_not(sky):
    z = np.abs(sky["distance_pc"] * np.sin(np.radians(sky["b"])))
    median = [np.median(z[sky["population"] == p]) for p in (galaxy.THIN, galaxy.THICK, galaxy.HALO)]
    assert median[0] < median[1] < median[2]
    assert (np.abs(sky["b"]) > 5.0).mean() > 0.95


def test_metal_poor_stars_move_faster(sky):
    field = sky["cluster"] < 0
    speed = np.hypot(sky["pmra"], sky["pmdec"]) * sky["distance_pc"]
    assert np.median(speed[field & (sky["fe_h"] < -1.3)]) > 2 * np.median(speed[field & (sky["fe_h"] > -0.3)])


def test_clusters_stand_out_in_position_motion_and_metallicity(sky):
    for index, cluster in enumerate(galaxy.CLUSTERS):
        member = sky["cluster"] == index
        assert member.sum() == 60
        assert np.abs(sky["dec"][member] - cluster.dec_deg).max() < 1.0
        assert abs(np.mean(sky["pmra"][member]) - cluster.pmra) < 0.1
        assert abs(np.mean(sky["fe_h"][member]) - cluster.fe_h) < 0.02
        assert np.median(sky["mag_g"][member]) < 18.0


def test_radial_velocities_carry_the_suns_motion():
    n = 4000
    rng = np.random.default_rng(2)
    population = np.zeros(n, dtype=int)
    apex = galaxy.galactic_to_equatorial(np.array([90.0]), np.array([0.0]))
    velocity = galaxy.draw_motions(np.full(n, apex[0][0]), np.full(n, apex[1][0]), np.full(n, 100.0), population, rng)[
        2
    ]
    expected = galaxy.VELOCITY_MEAN_KMS[0, 1] - galaxy.SUN_KMS[1]
    assert velocity.mean() == pytest.approx(expected, abs=1.5)


def test_extinction_grows_with_distance_and_ends():
    d = np.geomspace(1, 1e6, 200)
    value = dust.e_bv(np.full(200, 40.0), np.full(200, 15.0), d)
    assert (np.diff(value) >= 0).all()
    assert value[0] < 1e-3
    assert value[-1] == pytest.approx(dust.e_bv(np.array([40.0]), np.array([15.0]), np.inf)[0])


def test_extinction_is_thin_at_the_poles_and_thick_in_the_plane():
    longitude = np.linspace(0, 359, 100)
    poles = dust.e_bv(longitude, np.full(100, 80.0), np.inf)
    plane = dust.e_bv(longitude, np.full(100, 3.0), np.inf)
    assert poles.max() < 0.06
    assert plane.min() > 5 * poles.mean()


def test_dust_maps_give_the_column_back(tmp_path):
    from stellarscale.kernels.dust import ebv_sfd98
    from stellarscale.surveys.dust import load_dust_maps

    dust.write_sfd_maps(tmp_path, pixels=512)
    rng = np.random.default_rng(0)
    longitude = rng.uniform(0, 360, 500)
    latitude = rng.choice([-1.0, 1.0], 500) * rng.uniform(8, 89, 500)
    read = ebv_sfd98(load_dust_maps(str(tmp_path)), longitude, latitude)
    np.testing.assert_allclose(read, dust.e_bv(longitude, latitude, np.inf), rtol=0.02)


def test_a_fast_star_moves_by_its_motion_times_the_years():
    ra, dec = np.array([269.45, 10.0]), np.array([4.69, 89.99])
    pmra, pmdec = np.array([-801.6, 300.0]), np.array([10362.4, -200.0])
    moved = observe.displace(ra, dec, pmra=pmra, pmdec=pmdec, years=-16.0)
    coordinates = pytest.importorskip("astropy.coordinates")
    start = coordinates.SkyCoord(ra, dec, unit="deg")
    distance = start.separation(coordinates.SkyCoord(*moved, unit="deg")).arcsec
    np.testing.assert_allclose(distance, np.hypot(pmra, pmdec) * 0.016, rtol=1e-6)


def test_displacement_undoes_itself(sky):
    motion = {"pmra": sky["pmra"], "pmdec": sky["pmdec"]}
    ra, dec = observe.displace(sky["ra"], sky["dec"], **motion, years=10.0)
    ra, dec = observe.displace(ra, dec, **motion, years=-10.0)
    np.testing.assert_allclose(dec, sky["dec"], atol=1e-7)
    np.testing.assert_allclose(np.cos(np.radians(ra)), np.cos(np.radians(sky["ra"])), atol=1e-7)


def test_position_errors_have_the_size_asked_for():
    ra, dec = np.full(20000, 120.0), np.full(20000, 70.0)
    x, y = observe.jitter(ra, dec, sigma_arcsec=0.1, rng=np.random.default_rng(0))
    assert np.std((y - dec) * 3600) == pytest.approx(0.1, rel=0.03)
    assert np.std((x - ra) * 3600 * np.cos(np.radians(70.0))) == pytest.approx(0.1, rel=0.03)


def test_photometric_errors_grow_with_magnitude():
    error = observe.magnitude_error(np.linspace(8, 22, 50), floor=0.01, at=18.0)
    assert (np.diff(error) > 0).all()
    assert error[0] == pytest.approx(0.01, rel=0.01)
    assert observe.magnitude_error(np.array([18.0]), floor=0.0, at=18.0)[0] == pytest.approx(0.1)


def pair(sep_arcsec):
    sky = {"ra": np.array([50.0, 50.0]), "dec": np.array([10.0, 10.0 + sep_arcsec / 3600])}
    sky |= {"pmra": np.zeros(2), "pmdec": np.zeros(2), "primary": np.array([-1, 0])}
    return sky | {"mag_j": np.array([12.0, 12.0]), "mag_h": np.array([11.0, 13.0])}


def test_close_pairs_become_one_brighter_entry():
    seen, alone = observe.seen_at(pair(2.0), year=2000.0, bands=("j", "h"), resolution_arcsec=3.0)
    assert alone.tolist() == [True, False]
    assert seen["j"][0] == pytest.approx(12.0 - 2.5 * np.log10(2))
    assert seen["dec"][0] == pytest.approx(10.0 + 1.0 / 3600, abs=1e-9)
    assert seen["h"][0] < 11.0


def test_wide_pairs_stay_two():
    seen, alone = observe.seen_at(pair(4.0), year=2000.0, bands=("j", "h"), resolution_arcsec=3.0)
    assert alone.all()
    assert seen["j"].tolist() == [12.0, 12.0]


def test_pairs_lie_next_to_their_primary(sky):
    second = np.flatnonzero(sky["primary"] >= 0)
    assert 0.01 < len(second) / 20_000 < 0.03
    first = sky["primary"][second]
    assert len(np.unique(first)) == len(first)
    assert (sky["primary"][first] < 0).all()
    gap = galaxy.unit_vector(sky["ra"][first], sky["dec"][first]) - galaxy.unit_vector(
        sky["ra"][second], sky["dec"][second]
    )
    sep = np.degrees(np.linalg.norm(gap, axis=1)) * 3600
    assert sep.min() > 0.49
    assert sep.max() < 7.01


def test_biased_choice_takes_about_the_number_asked_for():
    weight = np.geomspace(1, 1e4, 20000)
    rows = observe.biased_choice(weight, 3000.0, np.random.default_rng(0))
    assert len(rows) == pytest.approx(3000, rel=0.1)
    assert weight[rows].mean() > weight.mean()
    assert len(observe.biased_choice(np.zeros(10), 5.0, np.random.default_rng(0))) == 0


def test_shares_of_the_chunks_add_up():
    plan = SkyPlan(rows=1003, seed=0, chunk_rows=97)
    assert sum(plan.share(17, chunk) for chunk in range(plan.chunks)) == 17
    assert [first for _, first, _ in plan.spans()] == [97 * chunk for chunk in range(11)]
    assert plan.bounds(10) == (970, 1003)


@pytest.mark.parametrize(
    "options", [{"rows": 0, "seed": 1}, {"rows": 5, "seed": -1}, {"rows": 5, "seed": 0, "chunk_rows": 0}]
)
def test_impossible_plans_are_refused(options):
    with pytest.raises(InputError):
        SkyPlan(**options)


def test_streams_differ_by_seed_chunk_and_step():
    plan = SkyPlan(rows=10, seed=1)
    draws = [
        plan.rng(0, "stars"),
        plan.rng(1, "stars"),
        plan.rng(0, "gaia"),
        SkyPlan(rows=10, seed=2).rng(0, "stars"),
    ]
    assert len({rng.random() for rng in draws}) == 4
