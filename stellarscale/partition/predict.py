"""Stellar parameters of feature rows by trained models, with the flags that say why one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.config import FeatureConfig, ModelSpec, SagesOutput
from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.kernels.conformal import Estimate
from stellarscale.partition.features import class_code, failed_cuts, floats, matrix, set_flags
from stellarscale.partition.noise import noise_values
from stellarscale.schema import ProductSchema, arrow_field


class Predictor(Protocol):
    """A trained model: what :class:`stellarscale.models.store.StoredForest` offers."""

    @property
    def magnitude(self) -> str | None:
        """Feature that the errors depend on, if any."""

    @property
    def noise(self) -> tuple[str, ...]:
        """Noise that the errors grow with, as :func:`stellarscale.partition.noise.noise_values` reads it."""

    def is_novel(self, x: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which rows of inputs lie outside of the training sample."""

    def estimate(
        self, x: NDArray[np.float32], magnitude: NDArray[np.float64] | None, noise: NDArray[np.float64]
    ) -> Estimate:
        """Values, errors and novelty of rows of inputs, shape (n, n_inputs); the noise has shape (n, k)."""


@dataclass(frozen=True)
class PredictConfig:
    """What a prediction needs to know, besides the models themselves."""

    features: FeatureConfig
    inputs: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    output: SagesOutput
    product: ProductSchema

    @property
    def labels(self) -> tuple[str, ...]:
        """Predicted parameters, in the order in which the models name them first."""
        return tuple(dict.fromkeys(model.label for model in self.models))

    @property
    def columns(self) -> tuple[str, ...]:
        """Predicted columns of the catalogue: each parameter, its error and the half width of its 95 % interval."""
        return tuple(f"{label}{ending}" for label in self.labels for ending in _ENDINGS)


_ENDINGS = ("", "_err", "_err95")


def predict_partition(table: pa.Table, config: PredictConfig, predictors: Mapping[str, Predictor]) -> pa.Table:
    """Predict every parameter for every row that may have it; no row is dropped.

    Parameters
    ----------
    table : Table
        Rows with features, as :func:`stellarscale.partition.features.add_features` returns them.
    config : PredictConfig
        Models, their inputs, the cuts and the columns of the catalogue.
    predictors : mapping of str to Predictor
        By model name.

    Returns
    -------
    Table
        Schema :func:`output_schema`. A parameter is null where a cut of the prediction fails, an input is missing,
        no model serves the class, or the star is redder than the limit; ``quality_flags`` says which. A star outside
        of the training sample of a model keeps its parameters; it is flagged, as is one without parameters that has
        all inputs. Errors are null for a model without calibration, and for a star that lacks a noise.

    Raises
    ------
    SchemaError
        If an input, or the magnitude or a noise that a model's errors depend on, is not in the table.
    """
    flags = _cut_flags(table, config.features)
    inputs = matrix(table, config.inputs)
    complete = np.asarray(np.isfinite(inputs).all(axis=1))
    flags[~complete] |= Flag.MISSING_FEATURE
    beyond = _beyond_limit(table, config)
    flags[beyond] |= Flag.BEYOND_COLOUR_LIMIT
    usable = complete & ~beyond & (flags & _BLANKING == 0)
    predicted = _predict(table, config, predictors, _Rows(inputs, complete, usable))
    flags[~predicted.served] |= Flag.NO_MODEL_FOR_CLASS
    flags[predicted.novel] |= Flag.EXTRAPOLATED
    flagged = set_flags(table, flags)
    schema = output_schema(table.schema, config)
    columns = {name: _nullable(values, schema.field(name).type) for name, values in predicted.columns.items()}
    arrays = [columns[name] if name in columns else _source(flagged, config, name) for name in schema.names]
    return pa.Table.from_arrays(arrays, schema=schema)


_BLANKING = np.int32(Flag.HIGH_EXTINCTION | Flag.LOW_PARALLAX_SNR | Flag.FAILED_CUT)


def output_schema(table_schema: pa.Schema, config: PredictConfig) -> pa.Schema:
    """Schema of the value-added catalogue for a table of features.

    Raises
    ------
    SchemaError
        If an output column has no source, or the product schema does not describe a predicted one.
    """
    sources = {
        *config.output.columns.values(),
        *([config.output.colour_limit[0]] if config.output.colour_limit else []),
    }
    missing = sorted(sources - set(table_schema.names))
    if missing:
        raise SchemaError(
            "output columns have no source", seen=", ".join(table_schema.names), needed=", ".join(missing)
        )
    taken = sorted(set(config.output.columns) & {*config.columns, COLUMN})
    if taken:
        raise SchemaError("output columns have the names of predicted ones", seen=", ".join(taken))
    fields = [table_schema.field("_healpix_29")]
    for name, source in config.output.columns.items():
        fields.append(table_schema.field(source).with_name(name))
    for name in config.columns:
        if name not in config.product.columns:
            raise SchemaError("the product schema does not describe a predicted column", seen=name)
        fields.append(arrow_field(name, config.product.columns[name]))
    flags = config.product.columns[COLUMN]
    return pa.schema([*fields, arrow_field(COLUMN, flags)])


def _source(table: pa.Table, config: PredictConfig, name: str) -> pa.ChunkedArray:
    return table[config.output.columns.get(name, name)]


def _cut_flags(table: pa.Table, features: FeatureConfig) -> NDArray[np.int32]:
    bits = {"E(B-V)": Flag.HIGH_EXTINCTION, "parallax over error": Flag.LOW_PARALLAX_SNR}
    flags = np.zeros(table.num_rows, dtype=np.int32)
    for name, failed in failed_cuts(table, features, training=False).items():
        flags |= np.where(failed, np.int32(bits.get(name, Flag.FAILED_CUT)), 0)
    return flags


def _beyond_limit(table: pa.Table, config: PredictConfig) -> NDArray[np.bool_]:
    if config.output.colour_limit is None:
        return np.zeros(table.num_rows, dtype=bool)
    column, limit = config.output.colour_limit
    return floats(table, column) > limit


@dataclass(frozen=True)
class _Predicted:
    """Predicted columns with NaN for what is not given, stars that have a model for every parameter, novel stars."""

    columns: dict[str, NDArray[np.float32]]
    served: NDArray[np.bool_]
    novel: NDArray[np.bool_]


@dataclass(frozen=True)
class _Rows:
    """Inputs of all rows, which rows have them all, and which of these get parameters."""

    inputs: NDArray[np.float32]
    complete: NDArray[np.bool_]
    usable: NDArray[np.bool_]


def _predict(table: pa.Table, config: PredictConfig, predictors: Mapping[str, Predictor], rows: _Rows) -> _Predicted:
    n = table.num_rows
    columns = {name: np.full(n, np.nan, dtype=np.float32) for name in config.columns}
    served, novel = {label: np.zeros(n, dtype=bool) for label in config.labels}, np.zeros(n, dtype=bool)
    for classes in dict.fromkeys(model.classes for model in config.models):
        mine = _members(table, config.features, classes)
        here, blank = np.flatnonzero(mine & rows.usable), np.flatnonzero(mine & rows.complete & ~rows.usable)
        gathered, others = rows.inputs[here], rows.inputs[blank]
        for model in (model for model in config.models if model.classes == classes):
            served[model.label] |= mine
            predictor = predictors[model.name]
            if len(blank):
                novel[blank] |= predictor.is_novel(others)
            if not len(here):
                continue
            magnitude = _magnitude(table, model, predictor)
            noise = noise_values(table, predictor.noise, where=f"model {model.name}")[here]
            estimate = predictor.estimate(gathered, None if magnitude is None else magnitude[here], noise)
            for ending, values in zip(_ENDINGS, (estimate.value, estimate.err, estimate.err95), strict=True):
                columns[f"{model.label}{ending}"][here] = values
            novel[here] |= estimate.novel
    return _Predicted(columns, np.logical_and.reduce(list(served.values())), novel)


def _magnitude(table: pa.Table, model: ModelSpec, predictor: Predictor) -> NDArray[np.float64] | None:
    if predictor.magnitude is None:
        return None
    if predictor.magnitude not in table.schema.names:
        raise SchemaError(
            "the errors of a model depend on a column that the table does not have",
            where=f"model {model.name}",
            seen=", ".join(table.schema.names),
            needed=predictor.magnitude,
            cause="the model was trained by a job with other features",
        )
    return floats(table, predictor.magnitude)


def _members(table: pa.Table, features: FeatureConfig, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    if not classes:
        return np.ones(table.num_rows, dtype=bool)
    if features.classes is None:
        raise SchemaError("a model names classes but the features define none", seen=", ".join(classes))
    codes = floats(table, "class_code")
    return np.isin(codes, [class_code(features.classes, name) for name in classes])


def _nullable(values: NDArray[np.float32], kind: pa.DataType) -> pa.Array:
    return pa.array(values, from_pandas=True).cast(kind)  # NaN becomes null
