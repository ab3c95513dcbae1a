"""Where neighbours contaminate: a finished acf run on a mock against forests on the master table's magnitudes.

The mock's truth says how much light of other stars each star has within 5 arcsec. Test stars of the run are looked at
all together, with a neighbour within 15 arcsec, and with more than a given share of others' light. Forests learn from
the training stars of the run, with magnitudes, or magnitudes and colours, and with the parallax or without. The scatter
of each network over that of the forest on magnitudes, with the parallax where the network has it, is told with its 95 %
interval from 1,000 draws of the stars.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from astropy.table import Table
from sklearn.ensemble import RandomForestRegressor

from stellarscale.config import read_job
from stellarscale.kernels.stats import robust_sigma
from stellarscale.settings.stamps import BANDS, EXTINCTION

TRAIN, TEST = 0, 2


def main(argv: list[str] | None = None) -> int:
    """Print the robust sigma of every method, label and group, as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished run of acf_mock")
    parser.add_argument("mock", type=Path, help="directory of the mock that it was run on")
    parser.add_argument("--share", type=float, default=0.05, help="light of others over the star's own")
    options = parser.parse_args(argv)
    labels = list(read_job(options.run / "job.json").units)
    stars = pq.read_table(options.run / "training" / "table.parquet", partitioning=None).to_pandas()
    truth = pq.read_table(options.mock / "truth" / "truth.parquet").to_pandas().set_index("object_id")
    stars["contamination"] = truth.loc[stars["object_id"], "contamination"].to_numpy()
    inputs = features(stars, options.mock)
    test = (stars["split"] == TEST).to_numpy()
    groups = {
        "all": test,
        "neighbour": test & (stars["self_dist_arcsec"] < 15).to_numpy(),
        "contaminated": test & (stars["contamination"] > options.share).to_numpy(),
    }
    for label in labels:
        found = networks(options.run / "models", len(stars), label)
        residuals = {name: predicted - stars[label].to_numpy() for name, predicted in found.items()}
        for name in residuals:
            tell(name, label, residuals[name], groups)
        for name, x in inputs.items():
            known = ((stars["split"] == TRAIN) & stars[label].notna()).to_numpy()
            forest = RandomForestRegressor(200, min_samples_leaf=2, random_state=0).fit(x[known], stars[label][known])
            residuals[f"forest, {name}"] = forest.predict(x) - stars[label].to_numpy()
            tell(f"forest, {name}", label, residuals[f"forest, {name}"], groups)
        for name in found:
            peer = f"forest, {'magnitudes' if name.endswith('_no_parallax') else 'magnitudes and parallax'}"
            compare(name, peer, label, residuals, groups)
    return 0


def features(stars, mock: Path) -> dict[str, np.ndarray]:
    """Inputs of the forests: absolute magnitudes where the parallax is used (paper III, Eq. 17), all dereddened."""
    master = Table.read(mock / "smss" / "dr4_master.fits").to_pandas().set_index("object_id").loc[stars["object_id"]]
    apparent = np.stack([master[f"{band}_psf"] - EXTINCTION[band] * stars["ebv"].to_numpy() for band in BANDS], axis=1)
    apparent = apparent.astype(np.float64)
    parallax = stars[["parallax", "parallax_error"]].to_numpy()
    absolute = apparent + 5.0 * np.log10(parallax[:, :1] / 1000.0) + 5.0
    colours = -np.diff(apparent, axis=1)
    return {
        "magnitudes and parallax": np.hstack([absolute, parallax]),
        "magnitudes": apparent,
        "magnitudes, colours and parallax": np.hstack([absolute, colours, parallax]),
    }


def networks(models: Path, n: int, label: str) -> dict[str, np.ndarray]:
    """What each network of the run says of its held-out stars; NaN for the others."""
    found = {}
    for path in sorted(models.glob("held_out_*.parquet")):
        table = pq.read_table(path, partitioning=None).to_pandas()
        mine = table[table["label"] == label]
        if len(mine):
            predicted = np.full(n, np.nan)
            predicted[mine["row"]] = mine["prediction"]
            found[path.stem.removeprefix("held_out_")] = predicted
    return found


def tell(method: str, label: str, residual: np.ndarray, groups: dict[str, np.ndarray]) -> None:
    """One line: the scatter of the residuals in each group."""
    sigmas = {name: round(robust_sigma(residual[mask & np.isfinite(residual)]), 4) for name, mask in groups.items()}
    print(json.dumps({"method": method, "label": label, **sigmas}), flush=True)


def compare(
    method: str, peer: str, label: str, residuals: dict[str, np.ndarray], groups: dict[str, np.ndarray]
) -> None:
    """One line: scatter of a method over that of another, and the interval that 95 % of the draws of stars are in."""
    generator, told = np.random.default_rng(0), {}
    one, other = residuals[method], residuals[peer]
    for name, mask in groups.items():
        rows = np.flatnonzero(mask & np.isfinite(one) & np.isfinite(other))
        drawn = (generator.choice(rows, len(rows)) for _ in range(1000))
        ratios = [robust_sigma(one[draw]) / robust_sigma(other[draw]) for draw in drawn]
        ratio = robust_sigma(one[rows]) / robust_sigma(other[rows])
        told[name] = [round(float(each), 3) for each in (ratio, *np.percentile(ratios, [2.5, 97.5]))]
    print(json.dumps({"method": method, "over": peer, "label": label, **told}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
