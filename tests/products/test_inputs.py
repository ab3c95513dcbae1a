"""What the runs of all products begin and end with."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from reference.mock_catalog import write_mock

from stellarscale.config import load_job
from stellarscale.errors import InputError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.products.inputs import checked_inputs, export_files, input_files


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


def test_all_missing_inputs_are_told_at_once_in_the_order_of_the_job(tmp_path):
    for file in ("smss/dr4_master.fits", "galah/a.fits", "lsp3/a.csv", "apogee/a.fits"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    job = load_job("acf", [f"data={tmp_path}", f"catalogs.galah.files=[{tmp_path}/galah/*.fits, nowhere/*, none]"])
    with pytest.raises(InputError) as caught:
        checked_inputs(job)
    error = caught.value
    assert error.what == "5 inputs of the job do not exist"
    assert error.where == "catalogs.gaia, catalogs.detections, catalogs.exposures, catalogs.galah"
    assert error.seen == (
        f"gaia: {tmp_path}/gaia/*.csv.gz; detections: {tmp_path}/smss/dr4_photometry*; "
        f"exposures: {tmp_path}/smss/dr4_images*; galah: nowhere/*, none"
    )
    assert error.needed == "an existing file, pattern or catalogue for each"
    assert f"{{data}} is '{tmp_path}'" in error.cause
    assert input_files(job, "apogee", job.catalogs["apogee"]) == [tmp_path / "apogee" / "a.fits"]


def test_a_single_missing_input_is_told_as_one(tmp_path):
    job = load_job("acf", [f"data={tmp_path}"])
    with pytest.raises(InputError) as caught:
        input_files(job, "gaia", job.catalogs["gaia"])
    error = caught.value
    assert (error.what, error.where) == ("an input of the job does not exist", "catalogs.gaia")
    assert (error.seen, error.needed) == (f"{tmp_path}/gaia/*.csv.gz", "an existing file, pattern or catalogue")
