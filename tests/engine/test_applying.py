"""A fitted method over arrays and catalogues: empty partitions and missing inputs give what they should."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("dask_ml")
import dask.array as da
import dask.dataframe as dd
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.reader import open_stored
from stellarscale.engine.applying import CHUNK_ROWS, apply, timed
from stellarscale.engine.lazy import open_catalog
from stellarscale.errors import ModelError


class Sum:
    """A method as strict as scikit-learn's: no empty input, none with missing values."""

    def __init__(self):
        self.largest = 0

    def predict(self, x):
        assert len(x)
        assert np.isfinite(x).all()
        self.largest = max(self.largest, len(x))
        return x.sum(axis=1)


def test_chunks_of_an_array_with_an_empty_one():
    x = np.arange(30, dtype=np.float32).reshape(10, 3)
    rows = da.from_array(x, chunks=((4, 0, 6), 3))
    found = apply(Sum(), rows)
    assert found.shape == (10,)
    np.testing.assert_array_equal(found.compute(scheduler="synchronous"), x.sum(axis=1))


def test_a_dataframe_keeps_its_index_and_the_inputs_their_order():
    frame = pd.DataFrame(
        {"b": [1.0, 2.0, np.nan, 4.0], "a": [10.0, 20.0, 30.0, 40.0], "id": list("wxyz")}, index=[5, 6, 8, 9]
    )
    parts = dd.from_pandas(frame, npartitions=2)

    class First(Sum):
        def predict(self, x):
            super().predict(x)
            return x[:, 0]

    found = apply(First(), parts, ["a", "b"]).compute(scheduler="synchronous")
    assert found.index.tolist() == [5, 6, 8, 9]
    np.testing.assert_array_equal(found.to_numpy(), [10.0, 20.0, np.nan, 40.0])


def test_a_catalogue_with_an_empty_partition(tmp_path):
    write_mock(tmp_path / "sky", mock_table(400, seed=2))
    view = open_catalog(tmp_path / "sky")
    position = open_stored(tmp_path / "sky").properties
    inputs = [position.ra, position.dec]
    frame = view.to_dask()
    emptied = frame[frame[position.ra] > 180.0]
    assert 0 in emptied.map_partitions(len).compute(scheduler="synchronous").to_list()
    found = apply(Sum(), emptied, inputs).compute(scheduler="synchronous")
    expected = emptied.compute(scheduler="synchronous")[inputs].to_numpy(np.float32).sum(axis=1)
    np.testing.assert_allclose(found.to_numpy(), expected, rtol=1e-5)


def test_the_rate_of_a_few_rows_is_measured_on_a_full_chunk():
    method = Sum()
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    predicted, rate = timed(method, x, 1)
    np.testing.assert_array_equal(predicted, x.sum(axis=1))
    assert method.largest == CHUNK_ROWS
    assert rate > CHUNK_ROWS


def test_without_dask_ml_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"stellarscale\[ml\]"):
        apply(Sum(), da.zeros((3, 2)))
