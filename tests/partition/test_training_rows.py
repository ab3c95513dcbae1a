from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.config import FeatureConfig, Training
from stellarscale.errors import SchemaError
from stellarscale.partition.training import training_rows

BAND = {"mag": "g_mag", "err": "g_err", "train_err": 0.1, "predict_err": 0.2}
FEATURES = FeatureConfig.model_validate({"bands": {"g": BAND}})
TRAINING = Training.model_validate(
    {
        "labels": {
            "teff": {"column": "t", "error": "t_err", "max_error": 200},
            "fe_h": {"column": "m", "range": [-5, 1]},
        },
        "inputs": ["g_0"],
        "models": [{"label": "teff"}],
    }
)


def table(rows):
    columns = list(zip(*rows, strict=True)) if rows else [[]] * 5
    names = ("g_0", "g_err", "t", "t_err", "m")
    data = {name: pa.array(values, pa.float64()) for name, values in zip(names, columns, strict=True)}
    return pa.table({"_healpix_29": pa.array(range(len(rows)), pa.int64()), **data})


def test_each_cut_and_its_count():
    rows = [
        (1.0, 0.01, 5000.0, 50.0, -1.0),  # good
        (1.0, 0.5, 5000.0, 50.0, -1.0),  # error of g
        (None, 0.01, 5000.0, 50.0, -1.0),  # missing feature
        (1.0, 0.01, 5000.0, 500.0, 9.0),  # no label: one has too large an error, the other is out of range
        (1.0, 0.01, None, None, -2.0),  # one label is enough
        (1.0, 0.15, 5100.0, 50.0, -1.5),  # gets parameters, and does not train
    ]
    result, rejected = training_rows(table(rows), FEATURES, TRAINING.inputs, TRAINING.labels)
    assert rejected == {"error of g": 1, "missing feature": 1, "no label": 1}
    assert result["_healpix_29"].to_pylist() == [0, 4, 5]
    assert result["label_teff"].to_pylist() == [5000.0, None, 5100.0]
    assert result["label_fe_h"].to_pylist() == [-1.0, -2.0, -1.5]
    assert result["trains"].to_pylist() == [True, True, False]


def test_without_a_cut_of_the_prediction_every_labelled_star_calibrates():
    features = FeatureConfig.model_validate({"bands": {"g": BAND | {"predict_err": None}}})
    rows = [(1.0, 0.01, 5000.0, 50.0, -1.0), (1.0, None, 5000.0, 50.0, -1.0)]
    result, rejected = training_rows(table(rows), features, TRAINING.inputs, TRAINING.labels)
    assert rejected == {}
    assert result["trains"].to_pylist() == [True, False]


def test_a_star_that_trains_need_not_pass_the_cuts_of_the_prediction():
    features = FeatureConfig.model_validate({"bands": {"g": BAND | {"train_err": None}}})
    result, rejected = training_rows(
        table([(1.0, 0.5, 5000.0, 50.0, -1.0)]), features, TRAINING.inputs, TRAINING.labels
    )
    assert rejected == {}
    assert result["trains"].to_pylist() == [True]


def test_a_column_of_a_label_that_is_not_there_is_named():
    with pytest.raises(SchemaError, match=r"label columns are missing.*Needed: t_err\b") as caught:
        training_rows(table([]).drop_columns("t_err"), FEATURES, TRAINING.inputs, TRAINING.labels)
    assert caught.value.needed == "t_err"
    assert "g_0" in caught.value.seen


values = st.one_of(st.none(), st.floats(-10, 10))


@given(st.lists(st.tuples(values, values, values, values, values), max_size=30))
def test_rows_are_conserved(rows):
    result, rejected = training_rows(table(rows), FEATURES, TRAINING.inputs, TRAINING.labels)
    assert result.num_rows + sum(rejected.values()) == len(rows)
    assert np.isfinite(result["g_0"].to_numpy()).all()
