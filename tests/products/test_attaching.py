"""Columns of another catalogue by a key, as a step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.engine.ledger import Ledger
from stellarscale.errors import RunError, SchemaError
from stellarscale.products.attaching import attach_catalog
from stellarscale.products.steps import session
from stellarscale.settings.laspm import Attach

N = 600
PATCH = (0.0, 40.0, 3.0)  # on both sides of right ascension 0
ATTACH = Attach(catalog="labels", key="source_id", their_key="star", columns={"label": "feh", "called": "name"})


@pytest.fixture(scope="module")
def left_table() -> pa.Table:
    return mock_table(N, patch=PATCH)


@pytest.fixture(scope="module")
def left(tmp_path_factory, left_table) -> Path:
    root = tmp_path_factory.mktemp("left") / "left"
    write_mock(root, left_table, max_rows=100)
    return root


@pytest.fixture(scope="module")
def right(tmp_path_factory, left_table) -> Path:
    """Every second star, under another name of the key; the first five are there twice."""
    root = tmp_path_factory.mktemp("right") / "right"
    rows = np.sort(np.concatenate([np.arange(0, N, 2), np.arange(0, 10, 2)]))
    table = left_table.take(rows)
    table = table.rename_columns(["star" if name == "source_id" else name for name in table.column_names])
    write_mock(root, table, max_rows=60, stellarscale_id="star")
    return root


@pytest.fixture(scope="module")
def on():
    with session("threads:1") as made:
        yield made


def test_every_row_stays_and_those_with_a_partner_get_its_columns(on, left, right, left_table, tmp_path):
    done = attach_catalog(on, left, right, tmp_path / "out", ATTACH)
    assert done["name"] == "attach labels"
    assert (done["rows_in"], done["written"], done["matched"], done["several"]) == (N, N, N // 2, 5)
    found = read_columns(open_stored(tmp_path / "out"), ["source_id", "gmag", "label", "called"])
    has = np.arange(N) % 2 == 0
    assert found["source_id"].to_pylist() == left_table["source_id"].to_pylist()
    assert found["gmag"].to_pylist() == left_table["gmag"].to_pylist()
    for name, theirs in {"label": "feh", "called": "name"}.items():
        expected = [value if known else None for value, known in zip(left_table[theirs].to_pylist(), has, strict=True)]
        assert found[name].to_pylist() == expected, name
    assert found.schema.field("label").metadata[b"unit"] == b"dex"
    assert not verify(tmp_path / "out").problems


def test_the_result_keeps_what_the_left_catalogue_says_of_itself(on, left, right, tmp_path):
    attach_catalog(on, left, right, tmp_path / "out", ATTACH)
    properties = open_stored(tmp_path / "out").properties
    assert (properties.name, properties.extra["stellarscale_id"], properties.rows) == ("out", "source_id", N)


def test_it_is_done_once_and_refused_when_it_would_be_another(on, left, right, tmp_path):
    attach_catalog(on, left, right, tmp_path / "out", ATTACH)
    before = Ledger(tmp_path / "out").receipts("attach")
    assert attach_catalog(on, left, right, tmp_path / "out", ATTACH)["resumed"]
    assert Ledger(tmp_path / "out").receipts("attach") == before
    with pytest.raises(RunError, match=r"radius_arcsec was 60\.0, now 5\.0"):
        attach_catalog(on, left, right, tmp_path / "out", ATTACH.model_copy(update={"radius_arcsec": 5.0}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": {"label": "iron"}}, "iron"),
        ({"key": "star"}, "star"),
        ({"their_key": "starname"}, "starname"),
        ({"columns": {"gmag": "feh"}}, "gmag"),
        ({"key": "name"}, "types cannot be equal"),
    ],
)
def test_what_does_not_fit_is_told_before_any_work(on, left, right, tmp_path, changes, words):
    with pytest.raises(SchemaError, match=words):
        attach_catalog(on, left, right, tmp_path / "out", ATTACH.model_copy(update=changes))
    assert not (tmp_path / "out").exists()
