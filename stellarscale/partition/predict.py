"""Stellar parameters of feature rows by trained models, with the flags that say why one is missing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.config import FeatureConfig, ModelSpec, Output
from stellarscale.errors import SchemaError
from stellarscale.flags import COLUMN, Flag
from stellarscale.partition.features import class_code, failed_cuts, floats, matrix, set_flags
from stellarscale.schema import ProductSchema, arrow_field

Predictor = Callable[[NDArray[np.float32]], tuple[NDArray[np.float64], NDArray[np.float64]]]


@dataclass(frozen=True)
class PredictConfig:
    """What a prediction needs to know, besides the models themselves."""

    features: FeatureConfig
    inputs: tuple[str, ...]
    models: tuple[ModelSpec, ...]
    output: Output
    product: ProductSchema

    @property
    def labels(self) -> tuple[str, ...]:
        """Predicted parameters, in the order in which the models name them first."""
        return tuple(dict.fromkeys(model.label for model in self.models))


def predict_partition(table: pa.Table, config: PredictConfig, predictors: Mapping[str, Predictor]) -> pa.Table:
    """Predict every parameter for every row that may have it; no row is dropped.

    Parameters
    ----------
    table : Table
        Rows with features, as :func:`stellarscale.partition.features.add_features` returns them.
    config : PredictConfig
        Models, their inputs, the cuts and the columns of the catalogue.
    predictors : mapping of str to callable
        By model name: float32 matrix (n, n_inputs) -> mean and standard deviation over trees, each (n,).

    Returns
    -------
    Table
        Schema :func:`output_schema`. A parameter is null where a cut of the prediction fails, an input is missing,
        no model serves the class, or the star is redder than the limit; ``quality_flags`` says which.
    """
    flags = _cut_flags(table, config.features)
    inputs = matrix(table, config.inputs)
    complete = np.isfinite(inputs).all(axis=1)
    flags |= np.where(complete, 0, np.int32(Flag.MISSING_FEATURE))
    beyond = _beyond_limit(table, config)
    flags |= np.where(beyond, np.int32(Flag.BEYOND_COLOUR_LIMIT), 0)
    usable = complete & ~beyond & (flags & _BLANKING == 0)
    columns, served = _apply(table, config, predictors, (inputs, usable))
    flags |= np.where(served, 0, np.int32(Flag.NO_MODEL_FOR_CLASS))
    flagged = set_flags(table, flags)
    schema = output_schema(table.schema, config)
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
    predicted = {name for label in config.labels for name in (label, f"{label}_err")}
    taken = sorted(set(config.output.columns) & {*predicted, COLUMN})
    if taken:
        raise SchemaError("output columns have the names of predicted ones", seen=", ".join(taken))
    fields = [table_schema.field("_healpix_29")]
    for name, source in config.output.columns.items():
        fields.append(table_schema.field(source).with_name(name))
    for label in config.labels:
        for name in (label, f"{label}_err"):
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


def _apply(
    table: pa.Table,
    config: PredictConfig,
    predictors: Mapping[str, Predictor],
    rows: tuple[NDArray[np.float32], NDArray[np.bool_]],
) -> tuple[dict[str, pa.Array], NDArray[np.bool_]]:
    inputs, usable = rows
    served = {label: np.zeros(table.num_rows, dtype=bool) for label in config.labels}
    values = {label: np.full((2, table.num_rows), np.nan) for label in config.labels}
    for model in config.models:
        mine = _members(table, config.features, model)
        served[model.label] |= mine
        here = np.flatnonzero(mine & usable)
        if len(here):
            values[model.label][:, here] = predictors[model.name](np.ascontiguousarray(inputs[here]))
    columns = {}
    for label, (mean, spread) in values.items():
        for name, array in ((label, mean), (f"{label}_err", spread)):
            kind = arrow_field(name, config.product.columns[name]).type
            columns[name] = pa.array(array, mask=np.isnan(array)).cast(kind)
    return columns, np.logical_and.reduce(list(served.values()))


def _members(table: pa.Table, features: FeatureConfig, model: ModelSpec) -> NDArray[np.bool_]:
    if not model.classes:
        return np.ones(table.num_rows, dtype=bool)
    if features.classes is None:
        raise SchemaError("a model names classes but the features define none", seen=", ".join(model.classes))
    codes = floats(table, "class_code")
    return np.isin(codes, [class_code(features.classes, name) for name in model.classes])
