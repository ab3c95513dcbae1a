"""Compare models and catalogue with what is known: labels, truth, other catalogues (paper I, sections 3.3 to 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.catalog.atomic import atomic_write
from stellarscale.catalog.reader import open_stored
from stellarscale.config import ModelSpec, SagesJob
from stellarscale.engine.ledger import write_json
from stellarscale.engine.sampling import CALIBRATE, HELD_OUT, HELD_OUT_WIDE
from stellarscale.errors import InputError
from stellarscale.partition.features import colour_name, floats
from stellarscale.products.external import external_evaluations
from stellarscale.products.forests import TrainedModel
from stellarscale.products.truth import against_truth
from stellarscale.report.content import Evaluation, SampleStars
from stellarscale.report.labels import sample_name
from stellarscale.settings.clusters import load_clusters

# Files in `<out>/evaluation/`.
TABLES = ("residuals", "trends", "coverage", "extrapolated", "external", "clusters", "metallicity", "samples")


def check_evaluation(job: SagesJob) -> None:
    """Refuse an evaluation that the catalogue will not have the columns or parameters for, before any work.

    Raises
    ------
    InputError
        Naming the setting, what the catalogue will have and what is needed.
    ConfigError
        If the list of star clusters is not there or not valid.
    """
    labels = list(dict.fromkeys(spec.label for spec in job.training.models))
    asked = {"evaluation.metallicity": [job.evaluation.metallicity] if job.evaluation.metallicity else []}
    asked |= {f"evaluation.external {e.name}": list(e.labels) for e in job.evaluation.external}
    for where, names in asked.items():
        missing = sorted(set(names) - set(labels))
        if missing:
            raise InputError(
                "the evaluation wants parameters that no model gives",
                where=where,
                seen=", ".join(labels),
                needed=", ".join(missing),
            )
    clusters = job.evaluation.clusters
    if clusters is None:
        return
    load_clusters(clusters.file)
    missing = sorted(set(clusters.needed) - {*job.output.columns, *labels})
    if missing:
        raise InputError(
            "the star clusters need columns that the catalogue will not have",
            where="evaluation.clusters",
            seen=", ".join([*job.output.columns, *labels]),
            needed=", ".join(missing),
            cause="add them to output.columns, or name other ones in evaluation.clusters.columns",
        )


def model_name(spec: ModelSpec) -> str:
    """What the page calls a model: its label and its classes, e.g. ``fe_h dwarf``."""
    return f"{spec.label} {' + '.join(spec.classes)}".strip()


def evaluate(job: SagesJob, catalog: Path, models: Sequence[TrainedModel]) -> list[Evaluation]:
    """Each model against its held-out and test stars; the catalogue against the truth and the external catalogues."""
    found = [evaluation for model in models if model.is_tested for evaluation in against_labels(job, model)]
    found += against_truth(job, open_stored(catalog))
    return found + [each for external in job.evaluation.external for each in external_evaluations(job, external)]


def against_labels(job: SagesJob, model: TrainedModel) -> list[Evaluation]:
    """One evaluation per role of the stars that did not train: held out (twice, by cuts), each catalogue that tests."""
    table = pq.read_table(model.held_out)
    roles = table["role"].to_pylist()
    names = sorted(set(roles), key=lambda role: (role not in (HELD_OUT, HELD_OUT_WIDE), role))
    return [_against_role(job, model, table.filter(pa.array([r == role for r in roles])), role) for role in names]


def _against_role(job: SagesJob, model: TrainedModel, table: pa.Table, role: str) -> Evaluation:
    numbers, held_out = model.numbers, role == HELD_OUT
    comparisons = {"scikit-learn robust sigma": numbers["sklearn_sigma"]} if "sklearn_sigma" in numbers else {}
    label = model.spec.label
    return Evaluation(
        model=model_name(model.spec),
        label=label,
        unit=job.training.labels[label].unit,
        against=sample_name(role),
        group=" + ".join(model.spec.classes).replace("_", " "),
        predicted=floats(table, "prediction"),
        truth=floats(table, "label"),
        error=floats(table, "err"),
        error95=floats(table, "err95"),
        magnitude=floats(table, "magnitude"),
        magnitude_name=job.training.errors.magnitude or "",
        novel=table["novel"].fill_null(False).to_numpy(),
        comparisons=comparisons if held_out else {},
        oob_score=numbers.get("oob_score") if held_out else None,
        n_train=numbers["n_train"],
    )


def sample_stars(job: SagesJob, model: TrainedModel) -> SampleStars:
    """The stars of a model for the number densities (paper I, Figs 2 and 3)."""
    path = model.path.with_name(f"{model.spec.name}_sample.parquet")
    classes = job.features.classes
    wanted = ["label", "role", "source"]
    diagram = [colour_name(classes.colour), f"m_{classes.absolute}_0"] if classes else []
    diagram = diagram if set(diagram) <= set(pq.read_schema(path).names) else []
    # Stars beyond the cuts of the training neither train nor test in the paper.
    table = pq.read_table(path, columns=[*wanted, *diagram])
    role = table["role"].cast(pa.string())
    wide = pc.is_in(role, value_set=pa.array([CALIBRATE, HELD_OUT_WIDE]))
    table = table.filter(pc.invert(wide))
    kinds, kind = _kinds(table)
    label = model.spec.label
    return SampleStars(
        model=model_name(model.spec),
        label=label,
        unit=job.training.labels[label].unit,
        value=floats(table, "label").astype(np.float32),
        kinds=kinds,
        kind=kind,
        colour=floats(table, diagram[0]).astype(np.float32) if diagram else None,
        absolute=floats(table, diagram[1]).astype(np.float32) if diagram else None,
        roles={each["values"]: each["counts"] for each in pc.value_counts(role).to_pylist()},
    )


def _kinds(table: pa.Table) -> tuple[tuple[tuple[str, str], ...], NDArray[np.integer]]:
    """Pairs of catalogue and role, sorted, and the index of each row's pair."""
    joined = pc.binary_join_element_wise(table["source"].cast(pa.string()), table["role"].cast(pa.string()), "\n")
    coded = joined.combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    ordered = sorted(names)
    place = np.array([ordered.index(name) for name in names], dtype=np.int16)
    pairs = [name.split("\n") for name in ordered]
    return tuple((source, role) for source, role in pairs), place[coded.indices.to_numpy()]


def write_tables(numbers: dict[str, Any], members: pa.Table | None, folder: Path) -> None:
    """Write each table of the evaluation into its own file: JSON, and the members of star clusters as Parquet."""
    every = numbers["evaluations"]
    tables = numbers | {
        "residuals": [row for row in every if row["kind"] != "external"],
        "external": [row for row in every if row["kind"] == "external"],
    }
    for name in TABLES:
        write_json(folder / f"{name}.json", tables[name])
    path = folder / "cluster_members.parquet"
    # A report that is written again leaves what has not changed as it is.
    if members is not None and not (path.is_file() and pq.read_table(path).equals(members)):
        with atomic_write(path) as temporary:
            pq.write_table(members, temporary)
