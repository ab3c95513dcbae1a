"""Where the stars of the mock Galaxy are and how they move.

A mock: two exponential discs and a halo seen from the Sun, with the scale heights, velocity ellipsoids and
metallicity distributions of textbooks (Bland-Hawthorn & Gerhard 2016, ARA&A 54, 529, rounded). Positions
come from the apparent magnitude inwards: a star of known distance gets a population by the discs' density
at that distance, then a latitude and a longitude from the same density, which needs no rejection and so
costs a fixed number of draws a star.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

THIN, THICK, HALO, CLUSTER = 0, 1, 2, 3
KMS_PER_MASYR_KPC = 4.74047

# Rows: thin disc, thick disc, halo.
SCALE_HEIGHT_PC = np.array([300.0, 900.0, np.inf])
LOCAL_DENSITY = np.array([1.0, 0.12, 0.012])
FE_H_MEAN = np.array([-0.10, -0.55, -1.50])
FE_H_SIGMA = np.array([0.20, 0.25, 0.55])
VELOCITY_MEAN_KMS = np.array([[0.0, -8.0, 0.0], [0.0, -50.0, 0.0], [0.0, -220.0, 0.0]])
VELOCITY_SIGMA_KMS = np.array([[35.0, 22.0, 16.0], [65.0, 42.0, 36.0], [150.0, 85.0, 80.0]])
SUN_KMS = np.array([11.1, 12.2, 7.2])

# Hipparcos explanatory supplement, section 1.5.3: equatorial (ICRS) to Galactic.
TO_GALACTIC = np.array(
    [
        [-0.0548755604162154, -0.8734370902348850, -0.4838350155487132],
        [0.4941094278755837, -0.4448296299600112, 0.7469822444972189],
        [-0.8676661490190047, -0.1980763734312015, 0.4559837761750669],
    ]
)


@dataclass(frozen=True)
class Cluster:
    """A star cluster: where it is, how it moves, its metallicity and the range of its members."""

    name: str
    ra_deg: float
    dec_deg: float
    pmra: float
    pmdec: float
    rv_kms: float
    distance_pc: float
    radius_deg: float
    fe_h: float
    giant_share: float
    giant_logg: tuple[float, float]
    dwarf_teff_k: tuple[float, float]


CLUSTERS = (
    Cluster("NGC 2420", 114.60, 21.58, -1.19, -2.13, 74.0, 2500.0, 0.07, -0.16, 0.12, (2.3, 3.2), (5400.0, 6900.0)),
    Cluster("NGC 2682", 132.85, 11.81, -10.99, -2.96, 34.0, 860.0, 0.20, 0.03, 0.10, (2.2, 3.4), (4400.0, 6150.0)),
    Cluster(
        "NGC 6934",
        308.55,
        7.40,
        -2.64,
        -4.67,
        -406.0,
        15600.0,
        0.05,
        -1.47,
        1.0,
        (0.9, 2.3),
        (6000.0, 6400.0),
    ),
    Cluster("NGC 7089", 323.36, -0.82, 3.43, -2.16, -4.0, 11500.0, 0.06, -1.65, 1.0, (0.8, 2.4), (6000.0, 6400.0)),
)


def draw_population(distance_pc: NDArray, rng: np.random.Generator) -> NDArray[np.int8]:
    """Thin disc, thick disc or halo, by the sky-averaged density of each at a distance.

    Averaged over latitude an exponential layer of height h has the density (h/d)(1 - exp(-d/h)); the radial
    ends of the discs and the inverse-square halo are one smooth factor each.
    """
    d = distance_pc[:, None]
    ratio = d / SCALE_HEIGHT_PC[None, :2]
    disc = LOCAL_DENSITY[:2] * -np.expm1(-ratio) / ratio / (1.0 + (d / 6000.0) ** 3)
    halo = LOCAL_DENSITY[2] / (1.0 + (d / 8200.0) ** 2)
    cumulative = np.cumsum(np.concatenate([disc, halo], axis=1), axis=1)
    return (rng.random(len(d))[:, None] * cumulative[:, -1:] > cumulative).sum(axis=1).astype(np.int8)


def draw_fe_h(population: NDArray, rng: np.random.Generator) -> NDArray[np.float64]:
    """[Fe/H] of each star: a Gaussian per population, folded back into -3.0 .. +0.5."""
    fe_h = FE_H_MEAN[population] + FE_H_SIGMA[population] * rng.standard_normal(len(population))
    fe_h = np.where(fe_h < -3.0, -6.0 - fe_h, fe_h)
    return np.clip(np.where(fe_h > 0.5, 1.0 - fe_h, fe_h), -3.0, 0.5)


def draw_directions(
    distance_pc: NDArray, population: NDArray, rng: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Galactic longitude and latitude (deg) of stars of known distance and population.

    sin|b| follows the layer's exponential along the sight line, by inversion, from |b| = 5 deg up (a
    fiftieth of the stars may lie lower, as at the edges of a real footprint); the longitude is von Mises
    about the Galactic centre.
    """
    n = len(distance_pc)
    low = np.where(rng.random(n) < 0.02, 0.0, np.sin(np.radians(5.0)))
    steepness = distance_pc / SCALE_HEIGHT_PC[population]
    u = rng.random(n)
    span = 1.0 - low
    with np.errstate(divide="ignore", invalid="ignore"):
        layer = low - np.log1p(u * np.expm1(-span * steepness)) / steepness
    sin_b = np.where(steepness > 1e-9, layer, low + u * span)
    sin_b = np.clip(sin_b, 0.0, 1.0) * np.where(rng.random(n) < 0.5, -1.0, 1.0)
    kappa = distance_pc * np.sqrt(1.0 - sin_b**2) / np.where(population == HALO, 8000.0, 3500.0)
    longitude = np.degrees(rng.vonmises(0.0, np.minimum(kappa, 6.0))) % 360.0
    return longitude, np.degrees(np.arcsin(sin_b))


def unit_vector(longitude_deg: NDArray, latitude_deg: NDArray) -> NDArray[np.float64]:
    """Unit vectors, shape (n, 3), of spherical positions in degrees."""
    lon, lat = np.radians(longitude_deg), np.radians(latitude_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def spherical(vector: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude in [0, 360) and latitude, degrees, of vectors of any length, shape (n, 3)."""
    x, y, z = vector[:, 0], vector[:, 1], vector[:, 2]
    longitude = np.degrees(np.arctan2(y, x)) % 360.0
    # A tiny negative angle rounds up to exactly 360 under the modulo.
    return np.where(longitude >= 360.0, 0.0, longitude), np.degrees(np.arctan2(z, np.hypot(x, y)))


def galactic_to_equatorial(l_deg: NDArray, b_deg: NDArray) -> tuple[NDArray, NDArray]:
    """ICRS right ascension and declination (deg) of Galactic positions (deg)."""
    return spherical(unit_vector(l_deg, b_deg) @ TO_GALACTIC)


def equatorial_to_galactic(ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
    """Galactic longitude and latitude (deg) of ICRS positions (deg)."""
    return spherical(unit_vector(ra_deg, dec_deg) @ TO_GALACTIC.T)


def tangent_axes(ra_deg: NDArray, dec_deg: NDArray) -> tuple[NDArray, NDArray]:
    """Unit vectors, each (n, 3), of growing right ascension and growing declination."""
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)], axis=1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=1)
    return east, north


def draw_motions(
    ra_deg: NDArray, dec_deg: NDArray, distance_pc: NDArray, population: NDArray, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """Proper motions (mas/yr, pmra with cos dec) and radial velocities (km/s) of field stars.

    Velocity ellipsoids about the local standard of rest, less the Sun's motion; differential rotation is
    left out.
    """
    velocity = VELOCITY_MEAN_KMS[population] + VELOCITY_SIGMA_KMS[population] * rng.standard_normal((len(ra_deg), 3))
    velocity = (velocity - SUN_KMS) @ TO_GALACTIC
    east, north = tangent_axes(ra_deg, dec_deg)
    per_kms = 1000.0 / (KMS_PER_MASYR_KPC * distance_pc)
    pmra = np.einsum("ij,ij->i", velocity, east) * per_kms
    pmdec = np.einsum("ij,ij->i", velocity, north) * per_kms
    return pmra, pmdec, np.einsum("ij,ij->i", velocity, unit_vector(ra_deg, dec_deg))
