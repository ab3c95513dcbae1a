"""Bad and odd input through the real command line: a clear message, an honest exit code, nothing half-written."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from reference.command_line import (
    FIRST_ID,
    PAIRS,
    ROWS,
    call,
    gaia_frame,
    import_both,
    refused,
    summary,
    user_table,
    write_files,
)

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.flags import Flag

HEADER = "source_id,ra,dec\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory) -> tuple[Path, Path]:
    return import_both(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def unfinished(root: Path) -> bool:
    """Whether nobody could take the directory for a catalogue."""
    return not (root / "hats.properties").exists() and not (root / "dataset" / "_metadata").exists()


def column(root: Path, name: str) -> list:
    return read_columns(open_stored(root), [name])[name].to_pylist()


def import_gaia(*paths: Path, out: Path) -> str:
    return refused("import", *paths, "--survey", "gaia_dr3", "--out", out)


# ---- files that cannot be read


def test_a_truncated_fits_file(files, out, tmp_path):
    whole = files[1].read_bytes()
    cut = tmp_path / "cut.fits"
    cut.write_bytes(whole[: len(whole) // 2])
    text = refused("import", cut, "--survey", "user_table", "--out", out)
    assert "FITS file is truncated" in text
    assert str(cut) in text
    assert f"{len(whole) // 2} bytes" in text
    assert not out.exists()


@pytest.mark.parametrize("good_first", [True, False])
def test_one_truncated_gzip_of_two_is_mended_and_the_other_is_not_read_again(files, out, tmp_path, good_first):
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


def test_a_file_that_is_not_there_a_directory_and_one_given_twice(files, out, tmp_path):
    assert "nothing there" in import_gaia(tmp_path / "absent.csv", out=out)
    assert "a directory" in import_gaia(tmp_path, out=out)
    assert "given twice" in import_gaia(files[0], files[0], out=out)
    assert not out.exists()


# ---- columns and units


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


def test_files_of_one_import_with_other_columns(files, out, tmp_path):
    path = tmp_path / "bare.csv"
    path.write_text(HEADER + "1,2,3\n")
    text = import_gaia(files[0], path, out=out)
    for part in ("do not have the same columns", str(files[0]), str(path), "only in the first: g_mag, pmdec, pmra"):
        assert part in text
    assert not out.exists()


def test_columns_of_another_type_between_files(out, tmp_path):
    pq.write_table(pa.table({"source_id": [1], "ra": [1.0], "dec": [1.0]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"source_id": [2], "ra": ["1h 2m"], "dec": [1.0]}), tmp_path / "b.parquet")
    text = import_gaia(tmp_path / "a.parquet", tmp_path / "b.parquet", out=out)
    assert "b.parquet" in text
    assert "column ra" in text
    assert unfinished(out)


def test_an_unknown_survey_suggests_the_nearest(files, out):
    text = refused("import", files[0], "--survey", "gaia_dr4", "--out", out)
    assert "did you mean gaia_dr3" in text
    assert "gaia_dr4" in text
    assert not out.exists()


def test_a_wrong_schema_file_names_each_problem(files, out, tmp_path):
    schema = tmp_path / "mine.yaml"
    schema.write_text("name: mine\nalas: m\n")
    text = refused("import", files[0], "--survey", schema, "--out", out)
    for part in (str(schema), "alias is missing", "did you mean 'alias'"):
        assert part in text
    assert str(tmp_path / "no.yaml") in refused("import", files[0], "--survey", tmp_path / "no.yaml", "--out", out)


# ---- rows


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


def test_a_match_without_pairs_leaves_empty_partitions_and_a_valid_catalogue(catalogs, tmp_path):
    far = tmp_path / "far.csv"
    far.write_text(HEADER + "".join(f"{i},{180 + i},-40\n" for i in range(9)))
    summary("import", far, "--survey", "gaia_dr3", "--out", tmp_path / "far")
    done = summary("crossmatch", catalogs[0], tmp_path / "far", "--radius-arcsec", 1, "--prefix", "far_", "--out",
                   tmp_path / "m")  # fmt: skip
    assert (done["rows_in"], done["matched"], done["written"]) == (ROWS, 0, 0)
    assert "far_source_id" in open_stored(tmp_path / "m").schema.names
    assert not verify(tmp_path / "m").problems
    assert list((tmp_path / "m").rglob("Npix*")) == []


# ---- output directories


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_an_output_that_holds_something_else_is_never_touched(files, tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("precious")
    text = refused("import", files[0], "--survey", "gaia_dr3", "--out", tmp_path, *fresh)
    assert "already holds something else" in text
    assert "thesis.tex" in text
    assert "a file" in refused("import", files[0], "--survey", "gaia_dr3", "--out", tmp_path / "thesis.tex", *fresh)
    below = refused("import", files[0], "--survey", "gaia_dr3", "--out", tmp_path / "thesis.tex" / "x", *fresh)
    assert "cannot be made" in below
    assert (tmp_path / "thesis.tex").read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_fresh_never_deletes_an_input(catalogs, tmp_path):
    left, right = (Path(shutil.copytree(path, tmp_path / path.name)) for path in catalogs)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    for out in (left, right, left / "dataset" / "inside", tmp_path):
        text = refused("crossmatch", left, right, "--radius-arcsec", 1, "--out", out, "--fresh")
        assert "nothing was touched" in text
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def test_fresh_does_not_delete_what_another_step_made(catalogs, tmp_path):
    other = Path(shutil.copytree(catalogs[0], tmp_path / "other"))
    text = refused("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", other, "--fresh")
    assert "'import'" in text
    assert not verify(other).problems


def test_an_import_into_the_directory_of_its_own_file(files, tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    shutil.copy(files[0], inside / "gaia.csv")
    text = refused("import", inside / "gaia.csv", "--survey", "gaia_dr3", "--out", inside, "--fresh")
    assert "nothing was touched" in text
    assert (inside / "gaia.csv").stat().st_size == files[0].stat().st_size


def test_other_settings_are_named_and_fresh_starts_over(files, out):
    arguments = ("import", files[0], "--survey", "gaia_dr3", "--out", out)
    summary(*arguments, "--max-rows", 200)
    text = refused(*arguments, "--max-rows", 100)
    assert "max_rows was 200, now 100" in text
    assert "--fresh" in text
    assert summary(*arguments, "--max-rows", 200)["resumed"] is True
    assert "resumed" not in summary(*arguments, "--max-rows", 100, "--fresh")
    assert not verify(out).problems


def test_a_directory_that_may_not_be_written(files):
    if os.geteuid() == 0:
        target = Path("/proc/stellarscale-test")
    else:
        target = Path("/stellarscale-test")
    assert "cannot be made" in refused("import", files[0], "--survey", "gaia_dr3", "--out", target)


# ---- catalogues that cannot be matched


@pytest.mark.parametrize("side", [0, 1])
def test_a_directory_that_is_no_catalogue(catalogs, files, out, tmp_path, side):
    pair = list(catalogs)
    for wrong, words in ((files[0].parent, "gaia.csv"), (files[1], "no such catalogue"), (tmp_path / "x", "no such")):
        pair[side] = wrong
        text = refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
        assert words in text
        assert str(wrong) in text
    pair[side] = files[0].parent
    assert "hats.properties" in refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert not out.exists()


def test_a_catalogue_without_positions_is_not_matched(catalogs, out, tmp_path):
    path = tmp_path / "segue.csv"
    path.write_text("ug,gr,ri,iz,FeH\n1.0,0.5,0.2,0.1,-1.5\n1.1,0.6,0.2,0.1,-1.0\n")
    summary("import", path, "--survey", "segue_colours", "--out", tmp_path / "segue")
    text = refused("crossmatch", tmp_path / "segue", catalogs[0], "--radius-arcsec", 1, "--out", out)
    assert "no positions" in text
    assert "placeholders" in text
    assert not out.exists()


def test_an_epoch_when_nobody_moves(catalogs, out, tmp_path):
    for epoch in ("2000", "rows"):
        text = refused("crossmatch", catalogs[1], catalogs[1], "--radius-arcsec", 1, "--epoch", epoch, "--out", out)
        assert "epoch" in text
        assert "proper motion" in text
    assert not out.exists()


def test_columns_that_would_have_two_sources(catalogs, out, tmp_path):
    text = refused("crossmatch", *catalogs, "--radius-arcsec", 1, "--prefix", "", "--out", out)
    for part in ("two sources", "ra", "dec", "prefix"):
        assert part in text
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", tmp_path / "once", "--keep", "all")
    text = refused("crossmatch", tmp_path / "once", catalogs[1], "--radius-arcsec", 1, "--out", out)
    assert "user_ra" in text
    assert "'user_'" in text
    assert not out.exists()


def without_sky_key(table: pa.Table) -> pa.Table:
    return table.drop_columns(["_healpix_29"])


def shuffled(table: pa.Table) -> pa.Table:
    return table.take(np.random.default_rng(1).permutation(table.num_rows))


def rewritten(root: Path, copy: Path, change) -> Path:
    """A catalogue as another program might have written it: other rows order, no sky key, no statistics."""
    shutil.copytree(root, copy, ignore=shutil.ignore_patterns(".stellarscale", "_metadata"))
    schema = None
    for path in copy.rglob("Npix=*.parquet"):
        table = change(pq.read_table(path, partitioning=None))
        pq.write_table(table, path, write_statistics=False, row_group_size=50)
        schema = table.schema
    pq.write_metadata(schema, copy / "dataset" / "_common_metadata")
    return copy


@pytest.mark.parametrize("change", [without_sky_key, shuffled, lambda table: shuffled(without_sky_key(table))])
@pytest.mark.parametrize("keep", ["nearest", "mutual"])
def test_unsorted_files_and_files_without_a_sky_key_give_the_same_pairs(catalogs, tmp_path, change, keep):
    options = ("--radius-arcsec", 60, "--keep", keep, "--epoch", 2000)
    summary("crossmatch", *catalogs, *options, "--out", tmp_path / "good")
    odd = [rewritten(path, tmp_path / f"odd-{path.name}", change) for path in catalogs]
    summary("crossmatch", *odd, *options, "--prefix", "user_", "--out", tmp_path / "odd")
    pairs = [
        sorted(zip(column(tmp_path / name, "source_id"), column(tmp_path / name, "user_id"), strict=True))
        for name in ("good", "odd")
    ]
    assert len(pairs[0]) > PAIRS / 2
    assert pairs[0] == pairs[1]
    assert not verify(tmp_path / "odd").problems


@pytest.mark.parametrize("damage", ["cut", "gone"])
@pytest.mark.parametrize("side", [0, 1])
def test_a_damaged_partition_is_named_the_rest_is_done_and_the_repair_completes(catalogs, out, tmp_path, damage, side):
    pair = list(catalogs)
    pair[side] = Path(shutil.copytree(pair[side], tmp_path / "hurt"))
    victim = sorted(pair[side].rglob("Npix=*.parquet"))[1]
    whole = victim.read_bytes()
    victim.unlink()
    if damage == "cut":
        victim.write_bytes(whole[:-60])
    text = refused("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert str(victim) in text
    assert "the rest is finished and kept" in text
    assert unfinished(out)
    assert "no HATS catalogue" in refused("info", out)
    state = summary("status", out)["steps"][0]
    assert state["state"] == "failed or killed"
    assert 0 < state["tasks_done"] < len(open_stored(catalogs[0]).pixels)
    victim.write_bytes(whole)
    done = summary("crossmatch", *pair, "--radius-arcsec", 1, "--out", out)
    assert done["matched"] == PAIRS
    assert done["resumed_partitions"] == state["tasks_done"]
    assert not verify(out).problems
    assert summary("status", out)["steps"][0]["state"] == "finished"


def test_a_file_of_another_schema_in_a_catalogue_is_named(catalogs, out, tmp_path):
    hurt = Path(shutil.copytree(catalogs[1], tmp_path / "hurt"))
    victim = sorted(hurt.rglob("Npix=*.parquet"))[0]
    table = pq.read_table(victim, partitioning=None)
    pq.write_table(table.drop_columns(["g_mag"]), victim)
    text = refused("crossmatch", catalogs[0], hurt, "--radius-arcsec", 1, "--out", out)
    assert "g_mag" in text
    assert unfinished(out)
    result = call("verify", hurt)
    assert result.exit_code == 1
    assert victim.name in result.stdout
    assert "g_mag" in result.stdout


# ---- ids


def test_ids_beyond_2_to_the_53_are_exact_from_end_to_end(catalogs, tmp_path):
    out = tmp_path / "m"
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    expected = sorted((FIRST_ID + 4 * i, str(FIRST_ID + 4 * i + 2**54)) for i in range(PAIRS))
    assert sorted(zip(column(out, "source_id"), column(out, "user_id"), strict=True)) == expected
    for suffix in ("fits", "csv", "vot", "parquet"):
        summary("export", out, "--out", tmp_path / f"m.{suffix}", "--columns", "source_id,user_id")
    assert sorted(Table.read(tmp_path / "m.fits")["source_id"].tolist()) == [one for one, _ in expected]
    lines = (tmp_path / "m.csv").read_text().replace('"', "").splitlines()
    assert sorted(lines[1:]) == sorted(f"{one},{other}" for one, other in expected)
    assert sorted(pq.read_table(tmp_path / "m.parquet")["source_id"].to_pylist()) == [one for one, _ in expected]
    assert sorted(np.asarray(Table.read(tmp_path / "m.vot")["source_id"]).tolist()) == [one for one, _ in expected]


# ---- a full disk, a limit, an interruption

PROGRAM = [sys.executable, "-m", "stellarscale.cli"]


def limited(bytes_: int):
    """Before exec: no file may grow beyond this; what a full disk does, without one."""

    def set_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    return set_limit


def test_files_that_may_not_grow_and_the_rerun_with_room(files, out):
    command = [*PROGRAM, "import", str(files[0]), "--survey", "gaia_dr3", "--out", str(out), "--cluster", "threads:2"]
    failed = subprocess.run(command, capture_output=True, text=True, preexec_fn=limited(8192), check=False)
    assert failed.returncode == 1, failed.stdout + failed.stderr
    assert "File too large" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert unfinished(out)
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(column(out, "source_id")) == gaia_frame().source_id.tolist()
    assert not verify(out).problems
    assert not list(out.rglob("*.stellarscale-part"))


@pytest.fixture
def small_disk():
    """A file system of 256 kB, where this may be mounted; outside of pytest's own directories, which it sweeps."""
    mount = Path(tempfile.mkdtemp(prefix="stellarscale-disk-"))
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", mount], capture_output=True, check=False)
    try:
        if made.returncode:
            pytest.skip("no file system may be mounted here")
        yield mount
    finally:
        if not made.returncode:
            subprocess.run(["umount", "-l", mount], check=True)
        mount.rmdir()


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_a_full_disk_and_the_rerun_with_room(catalogs, small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * (200 << 10))
    arguments = ("crossmatch", *catalogs, "--radius-arcsec", 600, "--keep", "all", "--out", small_disk / "out")
    text = refused(*arguments)
    assert "disk is full" in text
    assert "bytes free" in text
    assert unfinished(small_disk / "out")
    assert not list(small_disk.rglob("*.stellarscale-part"))
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
    done = summary(*arguments)
    assert done["written"] == done["matched"] > 2 * PAIRS
    assert not verify(small_disk / "out").problems


def test_a_disk_that_fills_at_the_end_of_a_match(catalogs, out, monkeypatch):
    """The partitions fit, the catalogue's own files do not."""
    import errno

    from stellarscale.catalog import atomic

    sync = atomic.sync

    def full(path: Path) -> None:
        if "partition_info" in path.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(path)

    with monkeypatch.context() as patched:
        patched.setattr(atomic, "sync", full)
        text = refused("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    assert "disk is full" in text
    assert "partition_info.csv" in text
    assert unfinished(out)
    done = summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    assert done["resumed_partitions"] == done["partitions"]
    assert done["matched"] == PAIRS
    assert not verify(out).problems


def test_ctrl_c_says_that_the_work_is_kept(catalogs, out, monkeypatch):
    from stellarscale.engine import stage

    def interrupted(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "_outcome", interrupted)
        result = call("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    assert result.exit_code == 130
    assert "what is finished is kept" in result.stderr
    assert unfinished(out)
    assert summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)["matched"] == PAIRS
