"""Stars unlike the training stars of networks on images: which are told, storage, and files of other networks."""

from __future__ import annotations

import numpy as np
import pytest
from reference.tiny_networks import BACKBONE, HEAD

from stellarscale.errors import InputError, ModelError
from stellarscale.models.image_novelty import learn_novelty, read_novelty, write_novelty
from stellarscale.settings.image_network import Head, ImageNetwork

NETWORK = ImageNetwork(backbone=BACKBONE, head=Head(parallax_units=8, hidden=(16, 8), parallax_input="log"))
LINEAR = NETWORK.model_copy(update={"head": HEAD})
BLIND = NETWORK.model_copy(update={"parallax": False})
BANDS = 3


def stars(n, seed, *, faintest=3.0):
    """Single stars of one colour and of brightness 8 down to the faintest, and parallaxes."""
    rng = np.random.default_rng(seed)
    brightness = rng.uniform(faintest, 8, n)
    summary = np.column_stack([brightness, brightness + 0.5, brightness + 0.8, np.zeros((n, BANDS))])
    summary += rng.normal(0, 0.05, summary.shape)
    parallax = 10 ** rng.uniform(-0.5, 1, n)
    return summary, parallax, parallax * rng.uniform(0.01, 0.2, n)


@pytest.fixture(scope="module")
def novelty():
    return learn_novelty(NETWORK, *stars(3000, 1), quantile=0.999)


def test_few_stars_like_the_training_stars_are_told(novelty):
    assert novelty.is_novel(*stars(3000, 1)).mean() < 0.002
    assert novelty.is_novel(*stars(20_000, 2)).mean() < 0.01


@pytest.mark.parametrize("network", [NETWORK, LINEAR, BLIND])
def test_fainter_stars_neighbours_and_odd_colours_are_told(network):
    found = learn_novelty(network, *stars(3000, 1), quantile=0.999)
    summary, parallax, error = stars(100, 3, faintest=4)
    assert found.is_novel(summary, parallax, error).sum() <= 2
    changes = {"fainter": [-6, -6, -6, 0, 0, 0], "one band": [0, 1, 0, 0, 0, 0], "beside": [0, 0, 0, 1, 1, 1]}
    for name, change in changes.items():
        assert found.is_novel(summary + change, parallax, error).mean() > 0.95, name


def test_odd_parallaxes_are_told_to_networks_that_use_them(novelty):
    summary, parallax, error = stars(100, 3)
    assert novelty.is_novel(summary, 30 * parallax, 30 * error).mean() > 0.5
    assert novelty.is_novel(summary, parallax, 5 * parallax).all()
    blind = learn_novelty(BLIND, *stars(3000, 1), quantile=0.999)
    assert blind.is_novel(summary, np.full(100, np.nan), error).sum() <= 2


def test_a_star_that_lacks_something_is_not_told_and_one_beyond_all_bounds_is(novelty):
    summary, parallax, error = stars(4, 3)
    summary[0, 1], parallax[1], summary[2, 0] = np.nan, np.nan, np.inf
    assert novelty.is_novel(summary, parallax, error).tolist() == [False, False, True, False]


def test_stars_that_lack_something_teach_nothing():
    whole = stars(400, 1)
    holes = [each.copy() for each in whole]
    holes[0][::2, 0] = np.nan
    one = learn_novelty(NETWORK, *holes, quantile=0.99)
    other = learn_novelty(NETWORK, *(each[1::2] for each in whole), quantile=0.99)
    assert np.array_equal(one.region.centre, other.region.centre)
    assert one.region.threshold == other.region.threshold
    with pytest.raises(InputError, match=r"too few stars.*19 of 19 training stars.*20"):
        learn_novelty(NETWORK, *stars(19, 1), quantile=0.99)


def test_other_stamps_are_refused(novelty):
    summary, parallax, error = stars(5, 3)
    with pytest.raises(ModelError, match="stamps with other bands"):
        novelty.is_novel(summary[:, :4], parallax, error)


def test_a_region_is_stored_without_code_and_read_back(tmp_path, novelty):
    path = tmp_path / "novelty_joint.npz"
    for network in (NETWORK, LINEAR, BLIND):
        learned = learn_novelty(network, *stars(500, 1), quantile=0.999)
        write_novelty(path, "joint", learned)
        first = path.read_bytes()
        back = read_novelty(path, "joint", network, n_bands=BANDS)
        new = stars(2000, 5, faintest=0)
        assert np.array_equal(learned.is_novel(*new), back.is_novel(*new))
        assert 0 < back.is_novel(*new).mean() < 1
        write_novelty(path, "joint", back)
        assert path.read_bytes() == first
        with np.load(path, allow_pickle=False) as arrays:
            assert "means" in arrays


def test_files_that_cannot_be_used_are_told(tmp_path, novelty):
    path = tmp_path / "novelty_joint.npz"
    with pytest.raises(ModelError, match=r"cannot be read.*novelty_joint\.npz.*older version"):
        read_novelty(path, "joint", NETWORK, n_bands=BANDS)
    write_novelty(path, "joint", novelty)
    with pytest.raises(ModelError, match=r"of another network.*network joint.*network teff"):
        read_novelty(path, "teff", NETWORK, n_bands=BANDS)
    with pytest.raises(ModelError, match=r"of another network.*parallax_input log.*parallax_input linear"):
        read_novelty(path, "joint", LINEAR, n_bands=BANDS)
    with pytest.raises(ModelError, match="array low"):
        read_novelty(path, "joint", NETWORK, n_bands=BANDS + 1)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match=r"cannot be read.*cut short.*remove it"):
        read_novelty(path, "joint", NETWORK, n_bands=BANDS)
    path.write_bytes(whole.replace(b'"version": 1', b'"version": 2'))
    with pytest.raises(ModelError, match=r"cannot be read|version 2"):
        read_novelty(path, "joint", NETWORK, n_bands=BANDS)
