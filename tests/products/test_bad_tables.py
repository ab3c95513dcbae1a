"""Bad and odd survey files through the real command line: a clear message, nothing half-written, no row lost."""

from __future__ import annotations

import gzip
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reference.command_line import (
    HEADER,
    PAIRS,
    ROWS,
    call,
    column,
    gaia_frame,
    import_gaia,
    refused,
    summary,
    unfinished,
    user_table,
)

from stellarscale.catalog.verify import verify
from stellarscale.flags import Flag


def test_a_truncated_fits_file(survey_files, out, tmp_path):
    whole = survey_files[1].read_bytes()
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole[: len(whole) // 2])
    text = refused("import", cut, "--survey", "user_table", "--out", out)
    assert "FITS file is truncated" in text
    assert str(cut) in text
    assert f"{len(whole) // 2} bytes" in text
    assert not out.exists()


@pytest.mark.parametrize("good_first", [True, False])
def test_one_truncated_gzip_of_two_is_mended_and_the_other_is_not_read_again(survey_files, out, tmp_path, good_first):
    frame = gaia_frame()
    good, bad = tmp_path / "good.csv.gz", tmp_path / "bad.csv.gz"
    frame[:400].to_csv(good, index=False)
    frame[400:].to_csv(bad, index=False)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    given = (good, bad) if good_first else (bad, good)
    text = import_gaia(*given, out=out)
    for part in ("1 of 2 tasks", "truncated or damaged", str(bad), "interrupted download", "the same command again"):
        assert part in text
    assert unfinished(out)
    kept = list((out / ".stellarscale" / "import").glob("*/rows.arrow"))
    assert len(kept) == 1
    before = kept[0].stat().st_mtime_ns
    bad.write_bytes(whole)
    os.utime(bad, ns=(1, 1))
    assert "1 of 2" not in call("status", out).output
    done = summary("import", *given, "--survey", "gaia_dr3", "--out", out)
    assert (done["rows_in"], done["written"]) == (ROWS, ROWS)
    receipts = {path.name: path for path in (out / ".stellarscale" / "receipts" / "read").glob("*good*")}
    assert len(receipts) == 1
    assert next(iter(receipts.values())).stat().st_mtime_ns >= before
    assert sorted(column(out, "source_id")) == frame.source_id.tolist()
    assert not verify(out).problems


def test_a_good_file_that_changes_too_is_read_again(out, tmp_path):
    frame = gaia_frame()
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    frame[:400].to_csv(good, index=False)
    bad.write_text("source_id,ra,dec,pmra,pmdec,phot_g_mean_mag\n1,twelve,3,0,0,9\n")
    text = import_gaia(good, bad, out=out)
    assert f"{bad}, line 2, column ra" in text
    assert "'twelve'" in text
    frame[:300].to_csv(good, index=False)
    frame[300:].to_csv(bad, index=False)
    done = summary("import", good, bad, "--survey", "gaia_dr3", "--out", out)
    assert done["written"] == ROWS
    assert sorted(column(out, "source_id")) == frame.source_id.tolist()


def test_a_csv_line_with_too_few_fields(out, tmp_path):
    path = tmp_path / "cut.csv"
    path.write_text(HEADER + "1,2,3\n4,5")
    text = import_gaia(path, out=out)
    assert str(path) in text
    assert "3 fields" in text
    assert unfinished(out)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"# nothing but a comment\n", "no header and no rows"),
        (bytes(range(128, 256)) * 9, "neither UTF-8 text"),
        (gzip.compress(b"", mtime=0), "no header and no rows"),
        (b"PAR1 not really", "no readable footer"),
        (b"<?xml version='1.0'?><VOTABLE><RES", "VOTable cannot be read"),
    ],
)
def test_a_file_without_a_table(out, tmp_path, content, words):
    path = tmp_path / "odd.csv"
    path.write_bytes(content)
    text = import_gaia(path, out=out)
    assert words in text
    assert str(path) in text
    assert not out.exists()


def test_a_file_that_is_not_there_a_directory_and_one_given_twice(survey_files, out, tmp_path):
    assert "nothing there" in import_gaia(tmp_path / "absent.csv", out=out)
    assert "a directory" in import_gaia(tmp_path, out=out)
    assert "given twice" in import_gaia(survey_files[0], survey_files[0], out=out)
    assert not out.exists()


def test_a_missing_required_column_names_what_was_found(out, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("sourceid,RAdeg,dec\n1,2,3\n")
    text = import_gaia(path, out=out)
    for part in (str(path), "sourceid", "RAdeg", "source_id", "'sourceid' is near 'source_id'"):
        assert part in text
    assert not out.exists()


def test_a_unit_of_another_kind_is_refused_before_any_work(out, tmp_path):
    table = user_table()
    table["ra"].unit = "mag"
    table.write(tmp_path / "t.fits")
    text = refused("import", tmp_path / "t.fits", "--survey", "user_table", "--out", out)
    for part in ("unit", "column ra", "Seen: mag", "Needed: deg"):
        assert part in text
    assert not out.exists()


def test_a_unit_that_converts_is_converted(out, tmp_path):
    table = user_table()
    table["ra"] = table["ra"].to("arcmin")
    assert table["ra"].max() > 360
    table.write(tmp_path / "t.fits")
    summary("import", tmp_path / "t.fits", "--survey", "user_table", "--out", out)
    assert np.allclose(sorted(column(out, "ra")), sorted(user_table()["ra"]), rtol=0, atol=1e-9)


def test_files_of_one_import_with_other_columns(survey_files, out, tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text(HEADER + "1,2,3\n")
    text = import_gaia(survey_files[0], path, out=out)
    for part in (
        "do not have the same columns",
        str(survey_files[0]),
        str(path),
        "only in the first: g_mag, pmdec, pmra",
    ):
        assert part in text
    assert not out.exists()


def test_columns_of_another_type_between_files(out, tmp_path):
    pq.write_table(pa.table({"source_id": [1], "ra": [1.0], "dec": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"source_id": [2], "ra": ["1h 2m"], "dec": [1.0]}), tmp_path / "b.parquet")
    text = import_gaia(tmp_path / "a.parquet", tmp_path / "b.parquet", out=out)
    assert "b.parquet" in text
    assert "column ra" in text
    assert unfinished(out)


def test_an_unknown_survey_suggests_the_nearest(survey_files, out):
    text = refused("import", survey_files[0], "--survey", "gaia_dr4", "--out", out)
    assert "did you mean gaia_dr3" in text
    assert "gaia_dr4" in text
    assert not out.exists()


def test_a_wrong_schema_file_names_each_problem(survey_files, out, tmp_path):
    schema = tmp_path / "mine.yaml"
    schema.write_text("name: mine\nalas: m\n")
    text = refused("import", survey_files[0], "--survey", schema, "--out", out)
    for part in (str(schema), "alias is missing", "did you mean 'alias'"):
        assert part in text
    assert str(tmp_path / "no.yaml") in refused(
        "import", survey_files[0], "--survey", tmp_path / "no.yaml", "--out", out
    )


def test_bad_positions_are_set_aside_with_their_reason_and_counted(out, tmp_path):
    path = tmp_path / "t.csv"
    rows = ["1,2,3", "2,nan,4", "3,400,3", "4,3,95", "5,-1,3", "6,inf,2", "7,,2", "8,360,5", "9,0,-90"]
    path.write_text(HEADER + "\n".join(rows) + "\n")
    done = summary("import", path, "--survey", "gaia_dr3", "--out", out)
    assert (done["rows_in"], done["written"], done["rejected"]) == (9, 3, 6)
    assert sorted(column(out, "source_id")) == [1, 8, 9]
    rejects = pq.read_table(out / "rejects.parquet").to_pylist()
    assert [(row["id"], row["row"]) for row in rejects] == [(str(i), i - 1) for i in (2, 3, 4, 5, 6, 7)]
    assert all(row["reason"] for row in rejects)
    assert {row["file"] for row in rejects} == {str(path)}
    assert not verify(out).problems


def test_duplicate_ids_are_kept_flagged_and_counted(out, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEADER + "1,2,3\n2,4,5\n1,10,10\n")
    done = summary("import", path, "--survey", "gaia_dr3", "--out", out)
    assert (done["written"], done["duplicates"]) == (3, 2)
    stars = zip(column(out, "source_id"), column(out, "quality_flags"), strict=True)
    assert sorted((i, bool(flags & int(Flag.DUPLICATE_ID))) for i, flags in stars) == [(1, True), (1, True), (2, False)]
    assert not verify(out).problems


def test_a_table_without_rows_becomes_a_catalogue_without_rows(catalogs, out, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(HEADER)
    assert summary("import", path, "--survey", "gaia_dr3", "--out", out)["written"] == 0
    assert summary("info", out)["rows"] == 0
    assert call("verify", out).exit_code == 0
    for left, right, rows in ((out, catalogs[1], 0), (catalogs[1], out, 0)):
        matched = tmp_path / f"m{left.name}"
        done = summary("crossmatch", left, right, "--radius-arcsec", 1, "--out", matched)
        assert (done["matched"], done["written"]) == (0, rows)
        assert not verify(matched).problems
    done = summary("crossmatch", catalogs[1], out, "--radius-arcsec", 1, "--how", "left", "--out", tmp_path / "left")
    assert (done["matched"], done["written"]) == (0, PAIRS)
