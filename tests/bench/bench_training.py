"""Forest training: our trees against scikit-learn's and scikit-learn-intelex's own forests, on the same mock stars.

Every method trains ``--distinct`` trees with out-of-bag predictions, in a process of its own (so that peak memories are
its own); ours then trains all ``--trees``. Ratios are of trees per second, measured, nothing is extrapolated.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from bench_forest import N_FEATURES, mock_stars
from measuring import peak_memory_mb, show, timed

PEERS = ("sklearn", "sklearnex")
OURS = ("histogram", "sklearn", "sklearnex")
HELD_OUT = 50_000
SIGMA_TOLERANCE = 0.03  # forests of few trees scatter


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(prog="bench_training", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=579_185, help="training rows")
    parser.add_argument("--trees", type=int, default=300, help="trees of our last fit")
    parser.add_argument("--distinct", type=int, default=8, help="trees of each method")
    parser.add_argument("--depth", type=int, default=17)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="threads")
    parser.add_argument("--method", help="run this one only, here: ours:BACKEND or peer:BACKEND")
    parser.add_argument("--quick", action="store_true", help="a small run that shows it works")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.trees, options.distinct = 6_000, 20, 10
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train by one method; seconds, scores and peak memory of this process."""
    from stellarscale.kernels.stats import robust_sigma
    from stellarscale.models.fit import ForestConfig

    kind, backend = options.method.split(":")
    config = ForestConfig(
        n_estimators=options.distinct,
        max_depth=options.depth,
        backend=backend,
        n_jobs=options.jobs,
    )
    fit = {"ours": _ours, "peer": _peer}[kind]
    fit(*mock_stars(500, seed=3), config)  # compiles and imports
    x, y = mock_stars(options.rows, seed=1)
    wall, processor, (predict, oob_score) = timed(lambda: fit(x, y, config))
    stars, labels = mock_stars(HELD_OUT if options.rows > HELD_OUT else options.rows, seed=2)
    return {
        "method": options.method,
        "trees": config.n_estimators,
        "seconds": round(wall, 2),
        "trees_per_second": round(config.n_estimators / wall, 3),
        "processor_seconds_per_tree": round(processor / config.n_estimators, 3),
        "oob_score": round(float(oob_score), 5),
        "held_out_sigma": round(robust_sigma(predict(stars) - labels), 2),
        "peak_memory_mb": peak_memory_mb(),
    }


def _ours(x: np.ndarray, y: np.ndarray, config: Any) -> tuple[Any, float]:
    from stellarscale.kernels.forest import predict
    from stellarscale.models.forest import train

    forest = train(x, y, feature_names=[f"x{k}" for k in range(N_FEATURES)], config=config)
    return lambda rows: predict(forest.packed, rows)[0], forest.oob_score


def _peer(x: np.ndarray, y: np.ndarray, config: Any) -> tuple[Any, float]:
    from stellarscale.models.fit import fit_estimator

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a few trees leave rows without an out-of-bag prediction
        forest, _ = fit_estimator(x, y, config=config)
    # Rows that every tree saw are 0 there, which would spoil the library's own score.
    oob = np.asarray(forest.oob_prediction_).reshape(len(y))
    known = oob != 0
    return forest.predict, 1 - np.sum((oob - y)[known] ** 2) / np.sum((y[known] - y[known].mean()) ** 2)


def run_apart(options: argparse.Namespace, method: str, trees: int) -> dict[str, Any]:
    """Measure one method in a fresh process."""
    numbers = {"rows": options.rows, "distinct": trees, "depth": options.depth, "jobs": options.jobs}
    arguments = [text for name, value in numbers.items() for text in (f"--{name}", str(value))]
    command = [sys.executable, str(Path(__file__)), "--method", method, "--json", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Every method with few trees, then ours with all."""
    known = [name for name in PEERS if name == "sklearn" or importlib.util.find_spec("sklearnex")]
    methods = [f"peer:{name}" for name in known] + [f"ours:{name}" for name in OURS if name in (*known, "histogram")]
    runs = {method: run_apart(options, method, options.distinct) for method in methods}
    whole = run_apart(options, "ours:histogram", options.trees)
    rate = {method: run["trees_per_second"] for method, run in runs.items()}
    sigma, reference = runs["ours:histogram"]["held_out_sigma"], runs["peer:sklearn"]["held_out_sigma"]
    return {
        "rows": options.rows,
        "threads": options.jobs,
        "runs": [*runs.values(), {**whole, "method": "ours:histogram, all trees"}],
        "ratio_to_sklearn": {method: round(value / rate["peer:sklearn"], 2) for method, value in rate.items()},
        "all_trees_ratio_to_sklearn": round(whole["trees_per_second"] / rate["peer:sklearn"], 2),
        "sigma_ratio_to_sklearn": round(sigma / reference, 4),
        "equal": abs(sigma / reference - 1) <= SIGMA_TOLERANCE,
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when ours is as good as scikit-learn on stars held out."""
    options = parse(argv)
    if options.method:
        print(json.dumps(measure(options)))
        return 0
    result = compare(options)
    for run in () if options.json else result.pop("runs"):
        print("  ".join(f"{name} {value}" for name, value in run.items()))
    return show(result, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
