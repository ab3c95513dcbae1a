"""MILES: labels of each star from the other stars' spectra, by the matcher and by the refinement.

The sample is every star of MILES_params.db with three labels and a spectrum of its own (944; one row has no readable
number). Spectra go linearly onto the grid of 4000 to 7400 Angstrom (vacuum, 1e-4 dex). The matcher weighs all pixels
alike and leaves out the star itself. The refinement is cross-validated: everything it learns, components and
regression included, comes from references that hold none of the stars it is tried on (``--folds`` parts; as many as
stars leaves out one at a time). ``--snr`` adds noise to the targets, never to the references; without noise the
refinement is told ``--assumed-snr``. Figures are 1.4826 times the median of |estimate - label|, and in brackets the
same about the median residual.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
NO_LABEL = 9000.0  # of logg and [Fe/H]; temperatures without one are 99999


def load(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Spectra on the grid, shape (n, n_pix), and labels, shape (n, 3)."""
    from stellarscale.kernels.wavelength import WaveGrid, air_to_vacuum

    grid = WaveGrid.covering(4000.0, 7400.0)
    spectra, labels = [], []
    for line in (folder / "MILES_params.db").read_text().splitlines():
        name, *values = line.split() or ["#"]
        path = folder / f"MILES_res2.50_star_m{name}V.fits"
        if not (name.isdigit() and path.exists()):
            continue
        teff, logg, fe_h = map(float, values[:3])
        if teff > 10 * NO_LABEL or logg > NO_LABEL or fe_h > NO_LABEL:
            continue
        flux, header = fits.getdata(path).astype(float), fits.getheader(path)
        air = header["CRVAL1"] + header["CDELT1"] * (np.arange(len(flux)) + 1 - header["CRPIX1"])
        spectra.append(np.interp(grid.wave_aa, air_to_vacuum(air), flux))
        labels.append((teff, logg, fe_h))
    flux = np.array(spectra)
    return (flux / flux.mean(axis=1)[:, None]).astype(np.float32), np.array(labels)


def residuals(flux: np.ndarray, labels: np.ndarray, order: int, snrs: list[float], options: argparse.Namespace) -> dict:
    """Estimate less label of every star, by method and S/N; microseconds a spectrum of the refinement."""
    from stellarscale.kernels.label_refine import RefineConfig, prepare_refiner, refine
    from stellarscale.kernels.template_match import match_spectra, prepare

    n, everyone = len(flux), np.arange(len(flux))
    config = RefineConfig(options.components, options.whitening, options.length)
    fold = np.random.default_rng(0).permutation(n) % min(options.folds, n)
    found = {(snr, name): np.full(labels.shape, np.nan) for snr in snrs for name in ("plain", "refined")}
    noisy = {snr: spoiled(flux, snr, options.assumed_snr) for snr in snrs}
    for snr, (spectra, ivar) in noisy.items():
        matches = match_spectra(spectra, ivar, prepare(flux, order=order), groups=everyone, own=everyone)
        found[snr, "plain"] = np.einsum("nk,nkc->nc", matches.weights, labels[matches.index])
    spent = 0.0
    for part in range(fold.max() + 1):
        held, known = fold == part, fold != part
        refiner = prepare_refiner(flux[known], labels[known], order=order, config=config)
        templates = prepare(flux[known], order=order)
        for snr, (spectra, ivar) in noisy.items():
            matches = match_spectra(spectra[held], ivar[held], templates)
            started = time.perf_counter()
            found[snr, "refined"][held] = refine(spectra[held], ivar[held], matches, refiner).labels
            spent += time.perf_counter() - started if part else 0.0
    print(f"order {order}: {spent / (len(snrs) * np.sum(fold > 0)) * 1e6:.0f} us a spectrum", file=sys.stderr)
    return {key: estimate - labels for key, estimate in found.items()}


def spoiled(flux: np.ndarray, snr: float, assumed: float) -> tuple[np.ndarray, np.ndarray]:
    """Spectra with noise added (none at infinite S/N), and one inverse variance for all pixels."""
    if not np.isfinite(snr):
        return flux, np.full_like(flux, assumed**2)
    rng = np.random.default_rng(int(snr))
    return (flux + rng.normal(0, 1 / snr, flux.shape)).astype(np.float32), np.full_like(flux, snr**2)


def sigmas(residual: np.ndarray) -> dict[str, list[float]]:
    """Robust sigma about zero and about the median."""
    about = residual - np.median(residual, axis=0)
    return {
        "about_zero": [round(1.4826 * float(v), 4) for v in np.median(np.abs(residual), axis=0)],
        "about_median": [round(1.4826 * float(v), 4) for v in np.median(np.abs(about), axis=0)],
    }


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder that holds spectra/miles")
    parser.add_argument("--orders", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--snr", type=float, nargs="*", default=[100.0, 50.0, 20.0, 10.0, 5.0])
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--assumed-snr", type=float, default=200.0)
    parser.add_argument("--components", type=int, default=40)
    parser.add_argument("--whitening", type=float, default=0.3)
    parser.add_argument("--length", type=float, default=1.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    folder = options.data / "spectra" / "miles"
    if not folder.is_dir():
        print(f"{folder} is not there: give the folder with --data", file=sys.stderr)
        return 2
    flux, labels = load(folder)
    table = {}
    for order in options.orders:
        for (snr, name), residual in residuals(flux, labels, order, [np.inf, *options.snr], options).items():
            table[f"order {order}, S/N {snr:g}, {name}"] = sigmas(residual)
    if options.json:
        print(json.dumps({"stars": len(flux), "pixels": flux.shape[1], "sigma": table}))
        return 0
    print(f"{len(flux)} stars, {flux.shape[1]} pixels; sigma of Teff (K), logg, [Fe/H]")
    for row, value in table.items():
        teff, logg, fe_h = value["about_zero"]
        other = value["about_median"]
        print(f"{row:32s} {teff:6.1f} {logg:.3f} {fe_h:.3f}   ({other[0]:.1f} {other[1]:.3f} {other[2]:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
