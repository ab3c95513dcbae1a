"""The writers of native files: FITS tables that grow, gzip text with native nulls, fixed-width names."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from stellarscale.simulate import files, text

DTYPE = np.dtype([("NAME", "S5"), ("RA", "f8"), ("VECTOR", "f4", (3,)), ("N", "i4")])


def rows(n, start=0):
    records = np.zeros(n, dtype=DTYPE)
    records["NAME"], records["N"] = b"abc", np.arange(start, start + n)
    records["RA"], records["VECTOR"] = np.pi, (1, 2, 3)
    return records


@pytest.mark.parametrize("sizes", [(0,), (1,), (3, 0, 500), (120, 120)])
@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_fits_tables_grow_and_reopen(tmp_path, sizes, suffix):
    path = tmp_path / f"t.{suffix}"
    with files.FitsTable(path, DTYPE, units={"RA": "deg"}) as table:
        for start, size in zip(np.cumsum((0, *sizes)), sizes, strict=False):
            table.append(rows(size, start))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        data = hdus[1].data
        assert len(data) == sum(sizes)
        assert data["N"].tolist() == list(range(sum(sizes)))
        assert data["VECTOR"].shape == (sum(sizes), 3)
        assert hdus[1].columns["RA"].unit == "deg"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_fits_files_end_on_a_block(tmp_path):
    with files.FitsTable(tmp_path / "t.fits", DTYPE) as table:
        table.append(rows(7))
    assert (tmp_path / "t.fits").stat().st_size % 2880 == 0


def test_records_take_constants_and_columns():
    records = files.record_array({"NAME": b"x", "RA": np.array([1.0, 2.0]), "VECTOR": 0.5, "N": 3}, DTYPE, 2)
    assert records["NAME"].tolist() == [b"x", b"x"]
    assert records["RA"].tolist() == [1.0, 2.0]
    assert records["VECTOR"].shape == (2, 3)


def test_text_is_compressed_by_its_name_only(tmp_path):
    columns = {"a": pa.array(range(files.SLICE_ROWS + 1)), "b": pa.scalar("x")}
    for name in ("t.csv", "t.csv.gz"):
        with files.TextTable(tmp_path / name, header="a,b\n") as out:
            out.append(columns, files.SLICE_ROWS + 1)
    plain = (tmp_path / "t.csv").read_bytes()
    assert gzip.decompress((tmp_path / "t.csv.gz").read_bytes()) == plain
    assert plain == b"a,b\n" + b"".join(b"%d,x\n" % number for number in range(files.SLICE_ROWS + 1))


def test_gzip_text_repeats_scalars_and_writes_nulls(tmp_path):
    with files.TextTable(tmp_path / "t.gz", header="a|b|c\n", separator="|", null="\\N") as out:
        out.append({"a": pa.array([1, None]), "b": pa.scalar("x"), "c": pa.array([0.1, 2.5])}, 2)
        out.append({"a": pa.array([3]), "b": pa.scalar("y"), "c": pa.array([None], pa.float64())}, 1)
    assert gzip.decompress((tmp_path / "t.gz").read_bytes()) == b"a|b|c\n1|x|0.1\n\\N|x|2.5\n3|y|\\N\n"
    assert out.rows == 3


def test_gzip_text_is_whole_across_slices(tmp_path):
    n = 2 * files.SLICE_ROWS + 5
    with files.TextTable(tmp_path / "t.gz") as out:
        out.append({"a": pa.array(np.arange(n))}, n)
    assert gzip.decompress((tmp_path / "t.gz").read_bytes()).split() == [str(i).encode() for i in range(n)]


def test_gzip_bytes_do_not_depend_on_the_clock(tmp_path):
    for name in ("a.gz", "b.gz"):
        with files.TextTable(tmp_path / name) as out:
            out.append({"a": pa.array([1, 2])}, 2)
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_csv_block_of_a_sliced_column():
    column = pa.array(["a", "b", "c"]).slice(1, 2)
    assert bytes(text.csv_block([column], separator=",", null="")) == b"b\nc\n"


def test_numbers_survive_their_text():
    values = np.round(np.random.default_rng(0).normal(0, 1000, 1000), 6)
    block = bytes(text.csv_block([text.decimal(values, 6)], separator=",", null=""))
    assert np.array_equal(np.array(block.split(), dtype=float), values)


def test_digits_and_prefixes():
    assert text.numbered("S_", np.array([0, 42, 999]), 3).tolist() == [b"S_000", b"S_042", b"S_999"]
    assert text.arrow_text(text.numbered("x", np.array([7]), 2)).to_pylist() == ["x07"]


def test_coordinate_names_agree_with_astropy():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-89, 89, 50)
    names = text.coordinate_name(ra, dec, prefix="J", decimals=(2, 1))
    sky = SkyCoord(ra, dec, unit="deg")
    for name, hour, minute, degree in zip(names, *sky.ra.hms[:2], sky.dec.signed_dms.d, strict=True):
        assert name[:5] == b"J%02d%02d" % (hour, minute)
        assert name[10:12] == b"%02d" % degree
    signs = [chr(name[9]) for name in names]
    assert signs == ["-" if value < 0 else "+" for value in dec]
    assert text.coordinate_name(np.array([180.5]), np.array([-0.5]), decimals=(2, 1)).tolist() == [b"12020000-0030000"]


def test_chosen_text_keeps_nulls():
    assert text.chosen_text(["a", None], np.array([1, 0])).to_pylist() == [None, "a"]
