"""Stars unlike the training stars: a finished acf run on a mock, flagged stars against the others, by the truth.

For each label and bin of the true g magnitude: robust sigma, share of stars within their claimed 68 % intervals, and
number, of the flagged stars and of the others; and the share of stars off by more than five errors that is flagged.
"""

from __future__ import annotations

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.config import read_job
from stellarscale.flags import Flag
from stellarscale.kernels.stats import robust_sigma

EDGES = (8, 12, 13, 14, 15, 15.5, 16, 17, 20)
FAR = 5.0  # errors
FEWEST = 5


def main(argv: list[str] | None = None) -> int:
    """Print shares of held-out stars flagged, and a JSON line for each label and bin."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="directory of a finished run of acf_mock")
    parser.add_argument("mock", type=Path, help="directory of the mock that it was run on")
    options = parser.parse_args(argv)
    job = read_job(options.run / "job.json")
    for path in sorted((options.run / "models").glob("held_out_*.parquet")):
        table = pq.read_table(path, columns=["row", "novel"], partitioning=None).to_pandas().drop_duplicates("row")
        tell({"network": path.stem, "held_out": len(table), "flagged": round(float(table["novel"].mean()), 4)})
    stars = compared(options.run / job.output.name, options.mock, list(job.units))
    edges = [(EDGES[0], EDGES[-1]), *pairwise(EDGES)]
    for label in job.units:
        residual, error = stars[label] - stars[f"{label}_true"], stars[f"{label}_err"]
        far = residual.abs() > FAR * error
        tell(
            {"label": label, "off_by_5_errors": int(far.sum()), "of_them_flagged": round(stars["novel"][far].mean(), 3)}
        )
        for low, high in edges:
            inside = (stars["g"] >= low) & (stars["g"] < high)
            sides = {"flagged": inside & stars["novel"], "others": inside & ~stars["novel"]}
            found = {name: figures(residual[side], error[side]) for name, side in sides.items()}
            tell({"label": label, "g": [low, high], **found})
    return 0


def compared(catalog: Path, mock: Path, labels: list[str]) -> pd.DataFrame:
    """Stars with parameters: values, errors, flag, and what is true of them."""
    names = ["object_id", "quality_flags", *(f"{label}{end}" for label in labels for end in ("", "_err"))]
    stars = read_columns(open_stored(catalog), names).to_pandas().dropna().set_index("object_id")
    truth = pq.read_table(mock / "truth" / "truth.parquet").to_pandas().set_index("object_id").loc[stars.index]
    stars["g"] = truth["g_mag"]
    stars["novel"] = (stars["quality_flags"] & int(Flag.EXTRAPOLATED)) != 0
    return stars.join(truth[labels].add_suffix("_true"))


def figures(residual: pd.Series, error: pd.Series) -> dict[str, float | int | None]:
    """Number, robust sigma and coverage."""
    n = len(residual)
    if n < FEWEST:
        return {"n": n, "sigma": None, "coverage_68": None}
    coverage = float(np.mean(residual.abs() <= error))
    return {"n": n, "sigma": float(f"{robust_sigma(residual.to_numpy()):.4g}"), "coverage_68": round(coverage, 3)}


def tell(record: dict) -> None:
    """One line."""
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    sys.exit(main())
