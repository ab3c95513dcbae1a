"""A second read brings the columns that the first left out, of the row groups with chosen rows only."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.gather import may_hold, read_rest
from stellarscale.catalog.layout import metadata_path
from stellarscale.catalog.reader import StoredCatalog, open_stored, read_columns, read_ranges
from stellarscale.errors import CatalogError

ROWS, GROUP = 400, 30


def with_repeats(table: pa.Table) -> pa.Table:
    """Each fifth row once or twice more, at the same place, with columns of its own."""
    times = np.where(np.arange(table.num_rows) % 5 == 0, 3, 1)
    repeated = table.take(pa.array(np.repeat(np.arange(table.num_rows), times)))
    ids = pa.array(np.arange(repeated.num_rows), pa.int64())
    return repeated.set_column(1, repeated.schema.field(1), ids)


@pytest.fixture(scope="module", params=["footers", "no footers"])
def stored(request, tmp_path_factory) -> StoredCatalog:
    root: Path = tmp_path_factory.mktemp("gather") / "stars"
    write_mock(root, with_repeats(mock_table(ROWS, seed=2)), max_rows=150, row_group_rows=GROUP)
    if request.param == "no footers":
        metadata_path(root).unlink()
    return open_stored(root)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), share=st.sampled_from([0.0, 0.01, 0.3, 1.0]))
def test_the_rest_of_some_rows_is_that_of_the_whole_catalogue(stored, seed, share):
    rng = np.random.default_rng(seed)
    sky = read_columns(stored, ["ra"])
    rows = rng.permutation(np.flatnonzero(rng.random(sky.num_rows) < share))
    rows = np.where(rng.random(rows.size) < 0.1, -1, rows)
    rest, places = read_rest(stored, sky, rows)
    assert rest.column_names == [name for name in stored.schema.names if name != "ra"]
    assert ((places < 0) == (rows < 0)).all()
    found = rest["source_id"].to_numpy()[places[rows >= 0]]
    assert found.tolist() == read_columns(stored, ["source_id"])["source_id"].to_numpy()[rows[rows >= 0]].tolist()


def test_rows_of_a_part_of_the_sky_are_found_among_its_row_groups(stored):
    keys = read_columns(stored, [])["_healpix_29"].to_numpy()
    ranges = np.array([[keys[40], keys[90]], [keys[200], keys[260]]])
    sky = read_ranges(stored, ranges, columns=["dec"])
    rest, places = read_rest(stored, sky, np.arange(sky.num_rows))
    whole = read_ranges(stored, ranges, columns=["source_id"])
    assert rest["source_id"].to_numpy()[places].tolist() == whole["source_id"].to_pylist()


def test_one_row_costs_one_row_group(stored):
    sky = read_columns(stored, ["ra"])
    rest, _ = read_rest(stored, sky, np.array([7, -1, 7]))
    assert rest.num_rows < (2 * GROUP if metadata_path(stored.root).is_file() else 150)
    assert read_rest(stored, sky, np.array([-1]))[0].num_rows == 0


def test_rows_that_are_not_there_any_more_are_told(stored):
    sky = read_columns(stored, ["ra"])
    shifted = sky.set_column(0, sky.schema.field(0), pa.array(sky.column(0).to_numpy() + 1))
    with pytest.raises(CatalogError, match="changed while it was read"):
        read_rest(stored, shifted, np.array([3]))


def test_where_rows_may_be_is_known_without_reading(stored):
    key = int(read_columns(stored, [])["_healpix_29"][50].as_py())
    assert may_hold(stored, np.array([[key, key + 1]]))
    assert not may_hold(stored, np.empty((0, 2), dtype=np.int64))
