"""Every accepted format gives the same canonical table, whatever the batch size and compression."""

from __future__ import annotations

import bz2
import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Column, MaskedColumn, Table
from pyarrow import csv, parquet

from stellarscale.schema import load_survey
from stellarscale.surveys.read import canonical_schema, inspect, open_source, read_batches

ROWS = 257
BIG = (1 << 53) + 1


def make_native(rows: int = ROWS) -> Table:
    rng = np.random.default_rng(5)
    ids = BIG + 2 * np.arange(rows, dtype=np.int64)
    parallax = np.round(rng.normal(size=rows), 6)
    magnitude = np.round(rng.uniform(10, 20, rows), 4).astype(np.float32)
    missing = np.arange(rows) % 5 == 0
    return Table(
        [
            Column(ids, name="source_id"),
            Column(np.round(rng.uniform(0, 360, rows), 9), name="ra", unit="deg"),
            Column(np.round(rng.uniform(-90, 90, rows), 9), name="dec", unit="deg"),
            MaskedColumn(parallax, name="parallax", unit="mas", mask=missing),
            MaskedColumn(magnitude, name="phot_g_mean_mag", unit="mag", mask=missing),
            Column([["VARIABLE", "CONSTANT"][i % 2] for i in range(rows)], name="phot_variable_flag"),
            Column(np.arange(rows) % 3 == 0, name="duplicated_source"),
        ]
    )


def as_arrow(table: Table) -> pa.Table:
    arrays = {}
    for name in table.colnames:
        column = table[name]
        mask = np.ma.getmaskarray(column) if isinstance(column, MaskedColumn) else None
        arrays[name] = pa.array(np.asarray(column), mask=mask)
    return pa.table(arrays)


def write(kind: str, folder: Path, table: Table) -> Path:
    path = folder / f"gaia.{kind}"
    if kind in ("fits", "fits.gz"):
        table.write(path, format="fits")
    elif kind == "parquet":
        parquet.write_table(as_arrow(table), path, row_group_size=50)
    elif kind == "votable":
        table.write(path, format="votable")
    elif kind == "votable_binary":
        table.write(path, format="votable", tabledata_format="binary")
    elif kind == "ecsv":
        table.write(path, format="ascii.ecsv")
    elif kind == "ecsv_comma":
        table.write(path, format="ascii.ecsv", delimiter=",")
    elif kind == "gaia_bulk":
        write_gaia_bulk(path, table)
    else:
        csv.write_csv(as_arrow(table), folder / "plain.csv")
        content = (folder / "plain.csv").read_bytes()
        pack = {"csv": bytes, "csv.gz": gzip.compress, "csv.bz2": bz2.compress}[kind]
        path.write_bytes(pack(content))
    return path


def write_gaia_bulk(path: Path, table: Table) -> None:
    """As the Gaia archive writes it: ECSV with `null`, descriptions, a comma, gzip."""
    header = "# %ECSV 1.0\n# ---\n# delimiter: ','\n# datatype: \n"
    for name in table.colnames:
        dtype = {"U": "string", "b": "bool"}.get(table[name].dtype.kind, table[name].dtype.name)
        header += f"# - \n#   name: {name}\n#   datatype: {dtype}\n#   description: Some (text) here\n"
        header += f"#   unit: {table[name].unit}\n" if table[name].unit else ""
    arrow = as_arrow(table).to_pylist()
    lines = [",".join("null" if v is None else str(v) for v in row.values()) for row in arrow]
    text = header + ",".join(table.colnames) + "\n" + "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()))


KINDS = [
    "fits",
    "fits.gz",
    "parquet",
    "votable",
    "votable_binary",
    "ecsv",
    "ecsv_comma",
    "gaia_bulk",
    "csv",
    "csv.gz",
    "csv.bz2",
]


def read_all(path: Path, survey: str = "gaia_dr3", batch_rows: int = 500_000) -> pa.Table:
    schema = load_survey(survey)
    batches = list(read_batches(path, schema, inspect(path, schema), batch_rows=batch_rows))
    assert all(batch.rows_in == batch.table.num_rows + batch.rejects.num_rows for batch in batches)
    return pa.concat_tables([batch.table for batch in batches]).combine_chunks()


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_table(tmp_path, kind):
    native = make_native()
    table = read_all(write(kind, tmp_path, native))
    assert table.num_rows == ROWS
    assert table["source_id"].to_pylist() == [int(i) for i in native["source_id"]]
    assert table["ra"].to_pylist() == list(native["ra"])
    assert table["dec"].to_pylist() == list(native["dec"])
    missing = [i for i in range(ROWS) if i % 5 == 0]
    for name, source in (("parallax", "parallax"), ("g_mag", "phot_g_mean_mag")):
        values = table[name].to_pylist()
        assert [i for i, value in enumerate(values) if value is None] == missing
        known = [i for i in range(ROWS) if i % 5]
        assert [values[i] for i in known] == [native[source][i] for i in known]
    assert table["variable"].to_pylist() == list(native["phot_variable_flag"])
    assert [bool(flag) for flag in table["quality_flags"].to_pylist()] == list(native["duplicated_source"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_schema_is_the_declared_one(tmp_path, kind):
    path = write(kind, tmp_path, make_native())
    schema = load_survey("gaia_dr3")
    columns = inspect(path, schema)
    batch = next(read_batches(path, schema, columns))
    assert batch.table.schema.equals(canonical_schema(schema, columns), check_metadata=True)
    assert columns == ("source_id", "ra", "dec", "parallax", "g_mag", "variable")
    assert batch.table.schema.field("parallax").metadata[b"unit"] == b"mas"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_rows", [1, 37, 256, 257, 10_000])
def test_batches_do_not_change_the_result(tmp_path, kind, batch_rows):
    path = write(kind, tmp_path, make_native())
    schema = load_survey("gaia_dr3")
    batches = list(read_batches(path, schema, inspect(path, schema), batch_rows=batch_rows))
    sizes = [batch.rows_in for batch in batches]
    assert sum(sizes) == ROWS
    assert all(size == batch_rows for size in sizes[:-1])
    assert pa.concat_tables([b.table for b in batches]).combine_chunks().equals(read_all(path))


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_change_the_batches(tmp_path, kind):
    path = write(kind, tmp_path, make_native())
    schema = load_survey("gaia_dr3")
    alone, threaded = (
        list(read_batches(path, schema, inspect(path, schema), batch_rows=50, first_id=7, threads=threads))
        for threads in (1, 3)
    )
    assert [batch.rows_in for batch in threaded] == [batch.rows_in for batch in alone]
    assert all(many.table.equals(one.table) for many, one in zip(threaded, alone, strict=True))


@pytest.mark.parametrize("threads", [1, 3])
def test_many_text_blocks_keep_the_order(tmp_path, threads):
    path = write("csv", tmp_path, make_native())
    schema = load_survey("gaia_dr3")
    source = open_source(path, schema)
    small = type(source)(source.path, source.layout, source.null_values, block_bytes=300)
    types = {"source_id": pa.int64(), "ra": pa.float64()}
    whole = pa.concat_tables(source.batches(types, 1000)).combine_chunks()
    assert pa.concat_tables(small.batches(types, 1000, threads=threads)).combine_chunks().equals(whole)


def test_only_the_columns_asked_for_are_parsed(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("source_id,ra,dec,parallax,phot_g_mean_mag\n1,2,3,not a number,15.5\n")
    schema = load_survey("gaia_dr3")
    batch = next(read_batches(path, schema, ["g_mag"]))
    assert batch.table.column_names == ["source_id", "ra", "dec", "g_mag", "quality_flags"]
    assert batch.table["g_mag"].to_pylist() == [15.5]


def test_a_column_the_file_lacks_is_null(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("source_id,ra,dec\n1,2,3\n")
    schema = load_survey("gaia_dr3")
    batch = next(read_batches(path, schema, ["parallax", "variable", "pmra"]))
    assert batch.table.to_pylist() == [
        {
            "source_id": 1,
            "ra": 2.0,
            "dec": 3.0,
            "parallax": None,
            "pmra": None,
            "variable": None,
            "quality_flags": 0,
        }
    ]
    assert batch.table.schema.field("variable").type == pa.string()


@pytest.mark.parametrize("end", ["\n", "", "\r\n", "\n\n"])
def test_a_header_alone_is_a_table_of_no_rows(tmp_path, end):
    path = tmp_path / "t.csv"
    path.write_bytes(("source_id,ra,dec" + end).encode())
    schema = load_survey("gaia_dr3")
    assert sum(batch.rows_in for batch in read_batches(path, schema, inspect(path, schema))) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_tables_without_rows_are_allowed(tmp_path, kind, caplog):
    path = write(kind, tmp_path, make_native()[:0])
    schema = load_survey("gaia_dr3")
    assert sum(batch.rows_in for batch in read_batches(path, schema, ["source_id"])) == 0
    assert "no rows" in caplog.text


@pytest.mark.parametrize("last", ["\n", ""])
def test_the_last_line_may_lack_its_end(tmp_path, last):
    path = tmp_path / "t.csv"
    path.write_text("source_id,ra,dec\n1,2,3\n4,5,6" + last)
    assert read_all(path)["source_id"].to_pylist() == [1, 4]


@pytest.mark.parametrize("delimiter", [",", "|", "\t", ";", " "])
def test_delimiters_and_padding(tmp_path, delimiter):
    path = tmp_path / "t.txt"
    path.write_text(f"source_id{delimiter}ra{delimiter}dec\n{BIG}{delimiter}2.5{delimiter}-3\n")
    assert read_all(path).to_pylist()[0] == {"source_id": BIG, "ra": 2.5, "dec": -3.0, "quality_flags": 0}


def test_byte_order_mark_comments_and_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeff# a comment\n#another\n\nsource_id,ra,dec,phot_variable_flag\n1,2,3,"a,""b"""\n')
    assert read_all(path)["variable"].to_pylist() == ['a,"b"']


def test_vizier_tab_separated_files_have_lines_of_units_and_dashes(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text(
        "#RESOURCE=yCat_1355\n#Name: I/355/gaiadr3\n\nSource\tRA_ICRS\tDE_ICRS\tpmRA\n"
        " \tdeg\tdeg\tarcsec/yr\n----\t----\t---\t--\n9007199254740993\t10.5\t-20.5\t0.25\n1\t1\t1\t\n"
    )
    first, second = read_all(path).to_pylist()
    assert (first["source_id"], first["ra"], first["pmra"]) == (BIG, 10.5, pytest.approx(250.0))
    assert second["pmra"] is None


def test_an_index_column_without_a_name_is_harmless(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",source_id,ra,dec,\n0,1,2,3,4\n")
    assert read_all(path)["source_id"].to_pylist() == [1]


TWOMASS_VALUES = {
    "ra": "10.5",
    "decl": "-20.25",
    "designation": "00420000-2015000",
    "j_m": "12.345",
    "j_msigcom": "0.021",
    "h_m": "12.1",
    "h_msigcom": "\\N",
    "k_m": "12.0",
    "k_msigcom": "0.03",
    "ph_qual": "AUA",
    "rd_flg": "222",
    "bl_flg": "111",
    "cc_flg": "000",
    "gal_contam": "0",
    "mp_flg": "0",
    "pts_key": "9007199254740993",
    "date": "1999-10-19",
    "jdate": "2451470.75",
}


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress])
def test_headerless_two_mass(tmp_path, pack):
    names = load_survey("twomass_psc").text.names
    assert len(names) == 60
    line = "|".join(TWOMASS_VALUES.get(name, "\\N") for name in names) + "\n"
    path = tmp_path / "psc_aaa"
    path.write_bytes(pack((line * 3).encode()))
    row = read_all(path, "twomass_psc").to_pylist()[2]
    assert (row["designation"], row["ra"], row["dec"]) == ("00420000-2015000", 10.5, -20.25)
    assert row["pts_key"] == BIG
    assert row["epoch_yr"] == pytest.approx(2000.0 + (2451470.75 - 2451545.0) / 365.25)
    assert row["h_mag_err"] is None
    assert row["h_mag"] == pytest.approx(12.1)


@pytest.mark.parametrize("end", ["", "|"])
def test_headerless_allwise_with_its_trailing_delimiter(tmp_path, end):
    values = {
        "designation": "J1",
        "ra": "1.5",
        "dec": "2.5",
        "cntr": str(BIG),
        "w1mpro": "9.5",
        "w2mpro": "9.25",
    }
    names = load_survey("allwise").text.names
    assert len(names) == 298
    path = tmp_path / "wise.bz2"
    path.write_bytes(bz2.compress(("|".join(values.get(name, "") for name in names) + end + "\n").encode()))
    row = read_all(path, "allwise").to_pylist()[0]
    assert (row["cntr"], row["ra"], row["w1_mag"], row["w2_mag"]) == (BIG, 1.5, 9.5, 9.25)


def test_memory_is_set_by_the_batch_not_by_the_file(tmp_path):
    schema = load_survey("gaia_dr3")
    peaks = []
    for rows in (60_000, 480_000):
        path = tmp_path / f"{rows}.fits"
        table = Table({"source_id": np.arange(rows), "ra": np.full(rows, 1.0), "dec": np.full(rows, 2.0)})
        table.write(path)
        del table
        tracemalloc.start()
        total = sum(batch.rows_in for batch in read_batches(path, schema, ["source_id"], batch_rows=20_000))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert total == rows
    assert peaks[1] < 1.1 * peaks[0]
