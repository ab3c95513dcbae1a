"""Template matching: are the best references those of the float64 normal equations, over many spectra?

Slow, so not part of the tests. References are mock M stars, mock M stars in near copies, and, where the data folder
is there, the stars of MILES, each matched with the other stars. Every spectrum has a seed of its own, a signal-to-noise
from 5 to 1000, a flux calibration, masked pixels, bad columns and now and then only a part of the wavelengths. The
plain answer is chi^2 of every reference from float64 sums over all pixels, the five smallest. A spectrum is missed if
one of its five differs while the chi^2 of the two differ by more than rounding.

The exit status is 0 when none is missed, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench_miles
import bench_spectra

ROUNDING = 1e-13  # of the sum of w y^2, which the normal equations subtract from


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=500, help="spectra for each set of references and order")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--orders", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--best", type=int, default=5)
    parser.add_argument("--data", type=Path, default=bench_miles.DATA, help="folder that holds spectra/miles")
    parser.add_argument("--quick", action="store_true", help="few spectra and references, one order")
    options = parser.parse_args(argv)
    if options.quick:
        options.spectra, options.orders = 20, [2]
    return options


def sets(options: argparse.Namespace, seed: int) -> Iterator[tuple[str, np.ndarray, np.ndarray, bool]]:
    """Name, references, spectra without noise to draw from, and whether these are the references themselves."""
    rng = np.random.default_rng((seed, 1))
    n, n_pix = (200, 500) if options.quick else (1365, 1657)
    references = bench_spectra.clean(n, n_pix, seed=int(rng.integers(2**31)))
    observed = (references * (1 + rng.normal(size=references.shape) / rng.uniform(20, 150, (n, 1)))).astype(np.float32)
    truth = bench_spectra.clean(max(options.spectra, 10), n_pix, seed=int(rng.integers(2**31)))
    yield "mock", observed, truth, False
    copies = observed[rng.integers(0, n // 10, n)] * (1 + 10.0 ** rng.uniform(-6, -2) * rng.normal(size=observed.shape))
    yield "near copies", copies.astype(np.float32), truth, False
    folder = options.data / "spectra" / "miles"
    if folder.is_dir() and not options.quick:
        miles, _ = bench_miles.load(folder)
        yield "miles", miles, miles, True


def observe(truth: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Flux and inverse variance of one spectrum as a telescope has it."""
    n_pix = len(truth)
    x = np.linspace(-1, 1, n_pix)
    flux = truth * (1 + rng.normal(0, 0.1) * x + rng.normal(0, 0.05) * x**2) * 10.0 ** rng.uniform(-2, 4)
    level = np.abs(flux).mean()
    noise = level / 10.0 ** rng.uniform(np.log10(5), 3) * np.sqrt(np.maximum(flux / level, 0.1))
    noise *= 1 + 3 * np.sin(np.arange(n_pix) * rng.uniform(0.3, 1)) ** 20  # sky lines
    flux, ivar = flux + noise * rng.normal(size=n_pix), noise**-2
    bad = rng.random(n_pix) < rng.choice([0, 0.02, 0.3])
    if rng.random() < 0.3:
        start = rng.integers(0, n_pix)
        bad[start : start + n_pix // 10] = True
    if rng.random() < 0.2:
        start = rng.integers(0, n_pix // 2)
        bad[:start], bad[start + n_pix // 3 :] = True, True
    flux[bad], ivar[bad] = np.nan, 0
    return flux.astype(np.float32), ivar.astype(np.float32)


def plain(flux: np.ndarray, ivar: np.ndarray, references: np.ndarray, order: int) -> np.ndarray:
    """Chi^2 of one spectrum to all references, float64, by normal equations in powers of a centred x."""
    used = np.flatnonzero(ivar > 0)
    y, weight, models = flux[used].astype(np.float64), ivar[used].astype(np.float64), references[:, used]
    middle = np.average(used, weights=weight)
    x = (used - middle) / np.sqrt(np.mean((used - middle) ** 2))
    powers = x ** np.arange(2 * order + 1)[:, None]
    b = models @ (weight * y * powers[: order + 1]).T
    moments = models**2 @ (weight * powers).T
    square = moments[:, np.add.outer(np.arange(order + 1), np.arange(order + 1))]
    coefficients = np.linalg.solve(square, b[:, :, None])[:, :, 0]
    # From the residuals of these: chi^2 itself does not cancel.
    residuals = y - (coefficients @ powers[: order + 1]) * models
    return np.asarray((residuals**2) @ weight)


def missed(name: str, order: int, options: argparse.Namespace, seed: int, data: tuple) -> tuple[int, np.ndarray]:
    """Spectra whose best references differ from the plain ones, of all; references scored by stage."""
    from stellarscale.kernels.template_match import match_spectra, prepare

    references, truth, is_own = data
    rng = np.random.default_rng((seed, 2, order, len(name)))
    rows = rng.integers(0, len(truth), options.spectra)
    pairs = [observe(truth[row].astype(np.float64), rng) for row in rows]
    flux, ivar = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
    own = rows if is_own else np.full(len(rows), -1)
    templates = prepare(references, order=order)
    found = match_spectra(flux, ivar, templates, k=options.best, groups=np.arange(len(references)), own=own)
    wide, wrong = references.astype(np.float64), 0
    for row in range(len(rows)):
        every = plain(flux[row], ivar[row], wide, order)
        if own[row] >= 0:
            every[own[row]] = np.inf
        best = np.argsort(every, kind="stable")[: options.best]
        size = np.nansum(ivar[row].astype(np.float64) * np.nan_to_num(flux[row].astype(np.float64)) ** 2)
        off = np.abs(every[found.index[row]] - every[best]) + np.abs(found.chi2[row] - every[best])
        if (found.index[row] < 0).any() or not (off <= 1e-9 * every[best] + ROUNDING * size).all():
            wrong += 1
            print(f"  missed: {name}, order {order}, row {row}: {found.index[row]} for {best}, chi^2 off by {off}")
    return wrong, found.scored


def main(argv: list[str] | None = None) -> int:
    """Check all sets and print a line each."""
    options = parse(argv)
    seed = options.seed if options.seed is not None else int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    total = n_spectra = 0
    for name, *data in sets(options, seed):
        for order in options.orders:
            started = time.perf_counter()
            wrong, scored = missed(name, order, options, seed, tuple(data))
            on_pixels, in_float64 = np.percentile(scored, [50, 100], axis=0).astype(int).T.tolist()
            print(
                f"{name:12s} order {order}: {wrong} of {options.spectra} missed; scored on pixels {on_pixels}, "
                f"in float64 {in_float64} (median, most); {time.perf_counter() - started:.0f} s",
                flush=True,
            )
            total, n_spectra = total + wrong, n_spectra + options.spectra
    print(f"{total} of {n_spectra} missed")
    return 0 if total == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
