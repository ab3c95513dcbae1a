"""The paper's own table: its columns in its order, -9999 where a value is missing, no star lost uncounted."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pytest
from astropy.io import fits
from astropy.table import Table
from reference.command_line import refused, summary
from reference.mock_catalog import mock_table, write_mock

from stellarscale.catalog import export_paper as module
from stellarscale.catalog.export_paper import export_paper_table, published_rows
from stellarscale.catalog.paper_table import PaperColumn, load_paper_table
from stellarscale.catalog.subset import parse_subset
from stellarscale.errors import ConfigError, RowCountError, SchemaError
from stellarscale.flags import Flag
from stellarscale.schema import parse_mapping

PAPER = load_paper_table()
SET1 = [
    "RA", "DEC", "Teff", "logg", "FeH", "ebv_sfd", "u", "v", "u_err", "v_err", "G", "Bp", "Rp", "G_err", "Bp_err",
    "Rp_err", "parallex", "err_parallax", "pm", "pmra", "pmdec", "err_pmra", "err_pmdec", "type",
]  # fmt: skip
SET2 = ["J", "H", "K", "J_err", "H_err", "K_err", "W1", "W2", "W1_err", "W2_err", "NUV", "NUV_err"]


def value_added(rows: int, *, optional: bool, seed: int = 3) -> pa.Table:
    """A catalogue as the jobs write it: classes 0 to 3 and none, some flags, some nulls."""
    rng = np.random.default_rng(seed)
    base = mock_table(rows, seed=seed).select(["_healpix_29", "source_id", "ra", "dec"])
    names = [c.native for c in PAPER.columns.values() if c.native and (optional or not c.optional)]
    for name in dict.fromkeys([*names, "pmra", "pmdec"]):
        kind = pa.float64() if name in {"sages_ra", "sages_dec", "parallax", "pmra", "pmdec"} else pa.float32()
        values = pa.array(rng.normal(10, 3, rows), mask=rng.random(rows) < 0.05)
        if name != "class_code":
            base = base.append_column(name, values.cast(kind))
    code = pa.array(rng.choice(4, rows, p=[0.2, 0.7, 0.05, 0.05]).astype(np.int8), mask=rng.random(rows) < 0.03)
    flags = rng.choice([0, int(Flag.SURVEY_FLAG), int(Flag.FAILED_CUT), int(Flag.BEYOND_COLOUR_LIMIT)], rows)
    base = base.append_column("class_code", code)
    return base.append_column("quality_flags", pa.array(flags.astype(np.int32)))


@pytest.fixture(scope="module")
def table():
    return value_added(3000, optional=True)


@pytest.fixture(scope="module")
def stored(tmp_path_factory, table):
    return write_mock(tmp_path_factory.mktemp("paper") / "cat", table, max_rows=500)[0]


def wanted(table: pa.Table) -> np.ndarray:
    code = table["class_code"].to_pandas().to_numpy()
    return np.isin(code, [0, 1]) & (table["quality_flags"].to_numpy() & int(Flag.FAILED_CUT) == 0)


def expected(table: pa.Table, name: str) -> np.ndarray:
    values = table[name].to_pandas().to_numpy(dtype=float)[wanted(table)]
    return np.where(np.isnan(values), -9999.0, values)


def test_names_and_order_are_those_of_table_3():
    required = [name for name, column in PAPER.columns.items() if not column.optional]
    assert required == SET1
    assert [name for name in PAPER.columns if name not in required] == SET2
    assert PAPER.null_value == -9999


@pytest.mark.parametrize("kind", ["fits", "csv"])
def test_every_value_comes_back(stored, table, tmp_path, kind):
    path = tmp_path / f"t.{kind}"
    done = export_paper_table(stored, path, PAPER, format=kind)
    found = Table.read(path) if kind == "fits" else pcsv.read_csv(path).to_pandas()
    assert list(found.columns) == list(PAPER.columns)
    assert len(found) == done.rows == wanted(table).sum()
    for name, column in PAPER.columns.items():
        if column.native:
            np.testing.assert_allclose(np.asarray(found[name]), expected(table, column.native), rtol=1e-6)
    motion = np.hypot(expected(table, "pmra"), expected(table, "pmdec"))
    motion[(expected(table, "pmra") == -9999) | (expected(table, "pmdec") == -9999)] = -9999
    np.testing.assert_allclose(np.asarray(found["pm"]), motion)
    assert set(np.asarray(found["type"])) == {0, 1}


def test_every_star_is_written_or_counted(stored, table, tmp_path):
    done = export_paper_table(stored, tmp_path / "t.fits", PAPER, format="fits")
    assert done.rows + done.other_class + done.failed_cuts == table.num_rows
    assert done.other_class == (~np.isin(table["class_code"].to_pandas(), [0, 1])).sum() > 0
    assert done.failed_cuts > 0
    assert done.columns_left_out == ()


def test_fits_headers_are_standard_and_tell_units(stored, tmp_path):
    export_paper_table(stored, tmp_path / "t.fits", PAPER, format="fits")
    with fits.open(tmp_path / "t.fits") as file:
        file.verify("exception")
        columns, header = file[1].columns, file[1].header
    assert header["EXTNAME"] == "SAGES_II_TABLE_3"
    units = dict(zip(columns.names, columns.units, strict=True))
    assert (units["RA"], units["Teff"], units["u"], units["parallex"]) == ("deg", "K", "mag", "mas")
    assert units["pm"] == "mas yr-1"
    assert not [key for key in header if key.startswith("TNULL")]
    assert len({name.lower() for name in columns.names}) == len(columns.names)


def test_set_1_has_no_columns_of_the_other_surveys(tmp_path):
    stored, _ = write_mock(tmp_path / "c", value_added(400, optional=False))
    done = export_paper_table(stored, tmp_path / "t.fits", PAPER, format="fits")
    assert list(done.columns_left_out) == SET2
    assert Table.read(tmp_path / "t.fits").colnames == SET1


def test_a_missing_column_of_the_table_is_told(tmp_path):
    stored, _ = write_mock(tmp_path / "c", value_added(100, optional=False).drop_columns(["sages_ra"]))
    with pytest.raises(SchemaError, match="sages_ra"):
        export_paper_table(stored, tmp_path / "t.fits", PAPER, format="fits")
    assert not (tmp_path / "t.fits").exists()


def test_only_fits_and_csv(stored, tmp_path):
    with pytest.raises(ConfigError, match="parquet"):
        export_paper_table(stored, tmp_path / "t.parquet", PAPER, format="parquet")


def test_a_part_of_the_sky(stored, table, tmp_path):
    subset = parse_subset("box:10,120,-30,40")
    done = export_paper_table(stored, tmp_path / "t.csv", PAPER, format="csv", subset=subset)
    inside = subset.mask(table, "ra", "dec")
    assert done.rows == (inside & wanted(table)).sum() > 50
    assert done.rows + done.other_class + done.failed_cuts == inside.sum()


def test_a_lost_star_is_an_error_and_leaves_the_old_file(stored, tmp_path, monkeypatch):
    path = tmp_path / "t.fits"
    path.write_text("old")
    original = module.published_rows
    monkeypatch.setattr(module, "published_rows", lambda *a, **k: original(*a, **k).slice(1))
    with pytest.raises(RowCountError, match="missing"):
        export_paper_table(stored, path, PAPER, format="fits")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["t.fits"]


def test_nan_counts_as_missing():
    columns = {"x": PaperColumn(native="x", description="x")}
    rows = published_rows(pa.table({"x": [1.0, float("nan"), None]}), columns, null_value=-9999)
    assert rows["x"].to_pylist() == [1.0, -9999.0, -9999.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": {"x": {"description": "no source"}}}, "native"),
        ({"rows": {"class_column": "c", "classes": [1], "without_flags": ["NO_SUCH"]}}, "NO_SUCH"),
    ],
)
def test_a_wrong_table_is_told(change, message):
    with pytest.raises(ConfigError, match=message):
        parse_mapping(type(PAPER), PAPER.model_dump() | change, where="test")


def test_memory_does_not_grow_with_the_catalogue(tmp_path):
    def peak(rows: int) -> int:
        stored, _ = write_mock(tmp_path / f"c{rows}", value_added(rows, optional=False), max_rows=850)
        export_paper_table(stored, tmp_path / "x", PAPER, format="fits")
        tracemalloc.start()
        export_paper_table(stored, tmp_path / "x", PAPER, format="fits")
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(36_000) < 1.5 * peak(9_000)


def test_the_command_says_what_it_left_out(stored, tmp_path):
    done = summary("export", stored.root, "--paper-table", tmp_path / "t.csv")
    assert done["rows"] + sum(done["left_out"].values()) == stored.num_rows
    assert done["columns_left_out"] == "none"


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ([], "either --out or --paper-table", 2),
        (["--out", "a.fits", "--paper-table", "b.fits"], "either --out or --paper-table", 2),
        (["--paper-table", "b.fits", "--columns", "ra"], "columns of its own", 2),
        (["--paper-table", "b.dat"], "names no format", 1),
    ],
)
def test_the_command_refuses_what_makes_no_sense(stored, options, words, code):
    assert words in refused("export", stored.root, *options, code=code)
