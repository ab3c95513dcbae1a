"""Template matching: the kernel against plain numpy, in pairs in one process, one core each.

Two peers do the same work spectrum by spectrum: least squares for every reference in turn (``lstsq``), and matrix
products over all references in float64 (``products``). Both then combine the five best. Spectra and references
are made on the spot: bands and lines that vary with temperature, gravity and metallicity, noise, masks.

The kernel is also timed on worker threads as a run has them, each a single-threaded call on its own block of
spectra. To hold it to two cores, start it under ``taskset -c 0,1``. Wall-clock rates need idle cores; the rates
per processor second do not.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from measuring import machine, peak_memory_mb, show, timed

TOLERANCE = 1e-8  # of chi^2
WINDOW_AA = (6000.0, 8800.0)
BAND_HEADS_AA = (6158, 6384, 6651, 6680, 7053, 7126, 7589, 7666, 8206, 8432)
N_LINES = 150


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=int, default=1365)
    parser.add_argument("--pixels", type=int, default=1657)
    parser.add_argument("--order", type=int, default=2, help="order of the polynomial")
    parser.add_argument("--best", type=int, default=5, help="references to find and combine")
    parser.add_argument("--spectra", type=int, default=4000, help="spectra for the kernel")
    parser.add_argument("--loop", type=int, default=12, help="spectra for the peers")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings")
    parser.add_argument("--threads", type=int, default=2, help="worker threads that take blocks of spectra")
    parser.add_argument("--block", type=int, default=500, help="spectra of a block")
    parser.add_argument("--quick", action="store_true", help="few spectra and one pair")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.spectra, options.loop, options.repeats, options.block = 400, 3, 1, 100
    return options


def clean(n: int, n_pix: int, seed: int) -> np.ndarray:
    """Spectra of cool stars without noise: a slope, bands with sharp heads and fine structure, and lines."""
    wave_aa = np.geomspace(*WINDOW_AA, n_pix)
    star, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    teff, logg, m_h = star.uniform(2800, 4500, n), star.normal(4.5, 0.5, n), star.uniform(-1, 0.5, n)
    continuum = np.exp(-1.4388e8 / wave_aa / teff[:, None])
    depth, opacity = (4500 - teff) / 1700, np.zeros((n, n_pix))
    for head in BAND_HEADS_AA:
        shape = np.where(wave_aa > head, np.exp(-(wave_aa - head) / 120), 0) * (1 + 0.3 * np.sin(wave_aa / 3))
        change = 1 + fixed.normal(0, 0.3) * m_h + fixed.normal(0, 0.1) * (logg - 4)
        opacity += fixed.uniform(0.6, 1.8) * np.clip(depth * change, 0, None)[:, None] * shape
    for line in fixed.uniform(*WINDOW_AA, N_LINES):
        strength = fixed.uniform(0.05, 0.4) * np.exp(fixed.normal(0, 0.3) * m_h + fixed.normal(0, 0.1) * (logg - 4))
        opacity += strength[:, None] * np.exp(-0.5 * ((wave_aa - line) / 2.5) ** 2)
    spectra = continuum * np.exp(-opacity)
    return spectra / spectra.mean(axis=1, keepdims=True)


def mock_references(n: int, n_pix: int) -> np.ndarray:
    """Observed references, signal-to-noise 40 to 120 per pixel."""
    rng = np.random.default_rng(1)
    spectra = clean(n, n_pix, seed=2)
    return (spectra * (1 + rng.normal(size=spectra.shape) / rng.uniform(40, 120, (n, 1)))).astype(np.float32)


def mock_spectra(n: int, n_pix: int) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance: signal-to-noise 5 to 200, a flux calibration of their own, masked pixels."""
    rng = np.random.default_rng(3)
    x = np.linspace(-1, 1, n_pix)
    bend = 1 + rng.normal(0, 0.1, (n, 1)) * x + rng.normal(0, 0.05, (n, 1)) * x**2
    spectra = clean(n, n_pix, seed=4) * bend * 10.0 ** rng.uniform(0, 4, (n, 1))
    level = spectra.mean(axis=1, keepdims=True)
    noise = level / 10.0 ** rng.uniform(0.7, 2.3, (n, 1)) * np.sqrt(spectra / level)
    noise *= 1 + 1.5 * np.sin(np.arange(n_pix) * 0.7) ** 20  # sky lines
    flux, ivar = spectra + noise * rng.normal(size=spectra.shape), noise**-2
    bad = rng.random(flux.shape) < 0.02
    flux[bad], ivar[bad] = np.nan, 0
    return flux.astype(np.float32), ivar.astype(np.float32)


def by_lstsq(flux: np.ndarray, weight: np.ndarray, references: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Weighted residuals of every reference, each with least squares of its own."""
    root, residuals = np.sqrt(weight), np.empty(references.shape)
    for number, reference in enumerate(references):
        design = (root * reference * powers).T
        residuals[number] = root * flux - design @ np.linalg.lstsq(design, root * flux, rcond=None)[0]
    return residuals


def by_products(flux: np.ndarray, weight: np.ndarray, references: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Weighted residuals of every reference from the normal equations of all at once."""
    order = len(powers) - 1
    b = references @ (weight * flux * powers).T
    x = powers[1] if order else np.zeros(len(flux))
    moments = references**2 @ np.stack([weight * x**power for power in range(2 * order + 1)], axis=1)
    square = moments[:, np.add.outer(np.arange(order + 1), np.arange(order + 1))]
    coefficients = np.linalg.solve(square, b[:, :, None])[:, :, 0]
    return np.sqrt(weight) * (flux - (coefficients @ powers) * references)


def plain(method: Callable, flux: np.ndarray, ivar: np.ndarray, references: np.ndarray, options: Any) -> tuple:
    """Best references, their chi^2 and that of the best combination, one spectrum after the other."""
    from scipy.optimize import nnls

    powers = np.linspace(-1, 1, flux.shape[1]) ** np.arange(options.order + 1)[:, None]
    index, chi2, combined = [], [], []
    for values, inverse in zip(flux, ivar, strict=True):
        used = inverse > 0
        residuals = method(
            values[used].astype(np.float64), inverse[used].astype(np.float64), references[:, used], powers[:, used]
        )
        every = np.einsum("ij,ij->i", residuals, residuals)
        best = np.argsort(every, kind="stable")[: options.best]
        heavy = 1e4 * np.sqrt(every[best[0]])  # holds the sum of the weights to one
        system = np.vstack([residuals[best].T, np.full(len(best), heavy)])
        weights = nnls(system, np.append(np.zeros(len(system) - 1), heavy))[0]
        combination = (weights / weights.sum()) @ residuals[best]
        index.append(best)
        chi2.append(every[best])
        combined.append(combination @ combination)
    return np.array(index), np.array(chi2), np.array(combined)


def on_threads(flux: np.ndarray, ivar: np.ndarray, templates: Any, options: argparse.Namespace) -> int:
    """Match all spectra in blocks on worker threads; the number matched."""
    from stellarscale.kernels.template_match import match_spectra

    def one(start: int) -> int:
        part = slice(start, start + options.block)
        found = match_spectra(flux[part], ivar[part], templates, k=options.best)
        return int((found.index[:, 0] >= 0).sum())

    with ThreadPoolExecutor(options.threads) as pool:
        return sum(pool.map(one, range(0, len(flux), options.block)))


def same(found: Any, result: tuple) -> tuple[bool, float]:
    """Whether a peer found the same references, and the largest relative difference of chi^2."""
    index, chi2, combined = result
    rows = len(index)
    difference = max(
        float(np.abs(found.chi2[:rows] / chi2 - 1).max()),
        float(np.abs(found.chi2_combined[:rows] / combined - 1).max()),
    )
    return bool((found.index[:rows] == index).all()) and difference <= TOLERANCE, difference


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Check equality, then time in pairs."""
    from threadpoolctl import threadpool_limits

    from stellarscale.kernels.template_match import match_spectra, prepare

    references = mock_references(options.references, options.pixels)
    flux, ivar = mock_spectra(options.spectra, options.pixels)
    wide = references.astype(np.float64)
    few = flux[: options.loop], ivar[: options.loop]
    with threadpool_limits(1):
        prepare_seconds, _, templates = timed(lambda: prepare(references, order=options.order))
        found = match_spectra(*few, templates, k=options.best)
        peers = {
            "lstsq": lambda: plain(by_lstsq, *few, wide, options),
            "products": lambda: plain(by_products, *few, wide, options),
        }
        equal = {name: same(found, peer()) for name, peer in peers.items()}
        kernel = lambda: match_spectra(flux, ivar, templates, k=options.best)  # noqa: E731
        both = lambda: on_threads(flux, ivar, templates, options)  # noqa: E731
        rounds = [
            {"one": timed(kernel), "both": timed(both), **{name: timed(peer) for name, peer in peers.items()}}
            for _ in range(options.repeats)
        ]
    scored = rounds[0]["one"][2].scored
    return figures(rounds, equal, options) | {
        "scored_on_pixels": np.percentile(scored[:, 0], [50, 100]).tolist(),
        "scored_in_float64": np.percentile(scored[:, 1], [50, 100]).tolist(),
        "prepare_seconds": round(prepare_seconds, 2),
        "templates_mb": round(sum(a.nbytes for a in templates if isinstance(a, np.ndarray)) / 1e6, 1),
        "spectra_mb": round((flux.nbytes + ivar.nbytes) / 1e6),
        "peak_rss_mb": peak_memory_mb(),
    }


def figures(rounds: list[dict], equal: dict[str, tuple[bool, float]], options: argparse.Namespace) -> dict[str, Any]:
    """Rates and ratios: medians over the rounds."""

    def median(value: Callable) -> float:
        return statistics.median(value(each) for each in rounds)

    rates = {
        "one_thread": median(lambda each: options.spectra / each["one"][0]),
        "one_thread_by_processor": median(lambda each: options.spectra / each["one"][1]),
        f"{options.threads}_threads": median(lambda each: options.spectra / each["both"][0]),
        f"{options.threads}_threads_best": max(options.spectra / each["both"][0] for each in rounds),
    }
    result: dict[str, Any] = {"order": options.order, "best": options.best, **machine()}
    result["spectra_per_second"] = {name: round(rate) for name, rate in rates.items()}
    share = options.spectra / options.loop
    for name, (is_equal, difference) in equal.items():
        result[f"{name}_per_second"] = round(median(lambda each, n=name: options.loop / each[n][0]), 1)
        result[f"{name}_ratio_processor"] = round(median(lambda each, n=name: share * each[n][1] / each["one"][1]))
        result[f"{name}_equal"] = is_equal
        result[f"{name}_chi2_difference"] = difference
    result["equal"] = all(is_equal for is_equal, _ in equal.values())
    return result


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when the same references were found and chi^2 agrees to 1e-8."""
    options = parse(argv)
    result = compare(options)
    return show(result, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
