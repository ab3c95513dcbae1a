"""Forest prediction: the packed kernel against scikit-learn, one core each, in pairs in one process.

The forest is trained on the spot on mock photometry: ``--distinct`` trees, listed again until there are
``--trees`` (the packed arrays hold every copy separately, so their memory is that of the whole forest).

``--predictions 63000000`` also times a whole survey: partitions of stars, each star predicted by three forests
(temperature, metallicity, gravity), mean and spread, on worker threads as a run has them. To hold it to two
cores, start it under ``taskset -c 0,1``.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import os
import platform
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from measuring import peak_memory_mb, show, timed

N_FEATURES = 15
TOLERANCE = 1e-6  # of the label's unit
N_LABELS = 3
DISTINCT_PARTITIONS = 4  # predicted over and over, so that making the mock stars costs neither time nor memory


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Command-line options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=131_072, help="rows to predict")
    parser.add_argument("--trees", type=int, default=300)
    # scikit-learn alone would spend most of the three minutes that a bench may take on training.
    distinct = 30 if importlib.util.find_spec("sklearnex") else 10
    parser.add_argument("--distinct", type=int, default=distinct, help="trees actually trained")
    parser.add_argument("--train-rows", type=int, default=580_000)
    parser.add_argument("--depth", type=int, default=17)
    parser.add_argument("--missing", type=float, default=0.0, help="share of feature values that are NaN")
    parser.add_argument("--repeats", type=int, default=5, help="pairs of timings")
    parser.add_argument("--jobs", type=int, default=2, help="threads that train the forest")
    parser.add_argument("--predictions", type=int, default=0, help="also time this many, three per star")
    parser.add_argument("--partition-rows", type=int, default=250_000, help="stars of a partition")
    parser.add_argument("--threads", type=int, default=2, help="worker threads that take partitions")
    parser.add_argument("--quick", action="store_true", help="a small forest and one pair")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.trees, options.train_rows, options.repeats = 20_000, options.distinct, 20_000, 1
    return options


def mock_stars(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Correlated features (five hidden quantities behind fifteen columns) and a noisy label in kelvin."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_rows, 5))
    mixing = np.random.default_rng(0).normal(size=(5, N_FEATURES - 5))
    x = np.column_stack([hidden, hidden @ mixing + 0.3 * rng.normal(size=(n_rows, N_FEATURES - 5))])
    y = 5500 + 700 * np.sin(2 * hidden[:, 0]) + 300 * hidden[:, 1] * hidden[:, 2] + 100 * rng.normal(size=n_rows)
    return x.astype(np.float32), y


def build(options: argparse.Namespace) -> tuple[Any, str, float]:
    """A scikit-learn forest of ``--trees`` trees, what trained it, and the seconds that took."""
    from sklearn.ensemble import RandomForestRegressor

    trainer, settings = RandomForestRegressor, {}
    if importlib.util.find_spec("sklearnex"):
        from sklearnex.ensemble import RandomForestRegressor as trainer

        settings["max_bins"] = 1024
    x, y = mock_stars(options.train_rows, seed=1)
    started = time.perf_counter()
    distinct = trainer(
        min(options.distinct, options.trees),
        max_features=1 / 3,
        max_depth=options.depth,
        n_jobs=options.jobs,
        random_state=0,
        **settings,
    )
    members = list(distinct.fit(x.astype(np.float64), y).estimators_)
    forest = RandomForestRegressor(n_estimators=options.trees, n_jobs=1)
    forest.estimators_ = [members[k % len(members)] for k in range(options.trees)]
    forest.n_features_in_, forest.n_outputs_ = N_FEATURES, 1
    return forest, trainer.__module__.partition(".")[0], time.perf_counter() - started


def largest_difference(forest: Any, ours: Any, x: np.ndarray) -> float:
    """Largest disagreement in the mean (with scikit-learn) and in the spread over trees."""
    mean, std = ours(x)
    trees = np.array([member.tree_.predict(x)[:, 0] for member in forest.estimators_])
    return max(float(np.abs(mean - forest.predict(x)).max()), float(np.abs(std - trees.std(axis=0)).max()))


def stars(n_rows: int, options: argparse.Namespace, seed: int) -> np.ndarray:
    """Features of mock stars, with missing values where asked for."""
    x, _ = mock_stars(n_rows, seed)
    x[np.random.default_rng(3).random(x.shape) < options.missing] = np.nan
    return x


def survey(packed: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time ``--predictions`` of three forests of their own memory, partition by partition, on worker threads."""
    from stellarscale.kernels.forest import predict

    copies = [
        dataclasses.replace(packed, nodes=packed.nodes.copy(), leaf_values=packed.leaf_values.copy())
        for _ in range(N_LABELS)
    ]
    partitions = [stars(options.partition_rows, options, seed=10 + k) for k in range(DISTINCT_PARTITIONS)]
    n_partitions = -(-options.predictions // (N_LABELS * options.partition_rows))

    def predict_one(number: int) -> int:
        x = partitions[number % DISTINCT_PARTITIONS]
        return sum(int(np.isfinite(np.add(*predict(forest, x))).sum()) for forest in copies)

    predict(packed, partitions[0][:1000])
    with ThreadPoolExecutor(options.threads) as pool:
        wall, processor, done = timed(lambda: sum(pool.map(predict_one, range(n_partitions))))
    return {
        "survey_predictions": done,
        "survey_partitions": n_partitions,
        "survey_threads": options.threads,
        "survey_cores": len(os.sched_getaffinity(0)),
        "survey_seconds": round(wall, 1),
        "survey_processor_seconds": round(processor, 1),
        "survey_per_second_and_thread": round(done / wall / options.threads),
    }


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Build, check equality, then time in pairs."""
    import numba
    import sklearn

    from stellarscale.kernels.forest import predict
    from stellarscale.models.pack import pack

    forest, backend, seconds = build(options)
    packed = pack(forest)
    x = stars(options.rows, options, seed=2)
    peer, ours = forest.predict, lambda rows: predict(packed, rows)
    difference = largest_difference(forest, ours, x[:4000])
    pairs = [tuple(timed(partial(side, x))[:2] for side in (peer, ours)) for _ in range(options.repeats)]
    rate = {
        name: statistics.median(options.rows / pair[side][0] for pair in pairs)
        for side, name in enumerate(("sklearn", "stellarscale"))
    }
    whole = survey(packed, options) if options.predictions else {}
    return {
        "trees": packed.n_trees,
        "distinct_trees": min(options.distinct, options.trees),
        "nodes": len(packed.nodes) - packed.n_trees,
        "depth": int(packed.depth.max()),
        "trained_by": backend,
        "build_seconds": round(seconds, 1),
        "rows": options.rows,
        "model_mb": round((packed.nodes.nbytes + packed.leaf_values.nbytes) / 1e6, 1),
        "largest_difference": difference,
        "equal": difference <= TOLERANCE,
        "rows_per_second": {name: round(value) for name, value in rate.items()},
        "ratio_wall": round(statistics.median(peer[0] / own[0] for peer, own in pairs), 2),
        "ratio_processor": round(statistics.median(peer[1] / own[1] for peer, own in pairs), 2),
        "ratio_wall_each": [round(peer[0] / own[0], 2) for peer, own in pairs],
        **whole,
        "peak_rss_mb": peak_memory_mb(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "numba": numba.__version__,
            "scikit-learn": sklearn.__version__,
        },
    }


def main(argv: list[str] | None = None) -> int:
    """Run the benchmark; 0 when the results agree to 1e-6 of the label's unit."""
    options = parse(argv)
    result = compare(options)
    return show(result, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
