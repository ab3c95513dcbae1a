"""What the runs of all products begin and end with."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from reference.mock_catalog import write_mock

from stellarscale.kernels.healpix import pixel_of
from stellarscale.products.inputs import export_files


def test_a_csv_file_is_without_vectors_and_bytes_and_the_log_says_so(tmp_path, caplog):
    columns = {
        "object_id": np.arange(5),
        "ra": np.linspace(10, 11, 5),
        "dec": np.linspace(-5, 5, 5),
        "references": [[1, 2]] * 5,
        "stamp": pa.array([b"1234"] * 5, pa.binary(4)),
    }
    columns["_healpix_29"] = pixel_of(columns["ra"], columns["dec"])
    write_mock(tmp_path / "catalog", pa.table(columns).sort_by("_healpix_29"))
    with caplog.at_level(logging.WARNING):
        written = export_files(SimpleNamespace(exports=("csv", "parquet")), tmp_path / "catalog")
    assert written == [str(tmp_path / name) for name in ("catalog.csv", "catalog.parquet")]
    table = pyarrow.csv.read_csv(written[0])
    assert table.column_names == ["_healpix_29", "object_id", "ra", "dec"]
    assert sorted(table["object_id"].to_pylist()) == list(range(5))
    assert "references, stamp left out" in caplog.text
    assert set(columns) == set(pq.read_schema(written[1]).names)
