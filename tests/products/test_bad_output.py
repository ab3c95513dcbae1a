"""Output that cannot be written, or must not be: other files, full disks, interruptions."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from reference.command_line import PAIRS, call, column, gaia_frame, refused, summary, unfinished

from stellarscale.catalog.verify import verify


@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_an_output_that_holds_something_else_is_never_touched(survey_files, tmp_path, fresh):
    (tmp_path / "thesis.tex").write_text("precious")
    text = refused("import", survey_files[0], "--survey", "gaia_dr3", "--out", tmp_path, *fresh)
    assert "already holds something else" in text
    assert "thesis.tex" in text
    assert "a file" in refused(
        "import", survey_files[0], "--survey", "gaia_dr3", "--out", tmp_path / "thesis.tex", *fresh
    )
    below = refused("import", survey_files[0], "--survey", "gaia_dr3", "--out", tmp_path / "thesis.tex" / "x", *fresh)
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


def test_an_import_into_the_directory_of_its_own_file(survey_files, tmp_path):
    inside = tmp_path / "data"
    inside.mkdir()
    shutil.copy(survey_files[0], inside / "gaia.csv")
    text = refused("import", inside / "gaia.csv", "--survey", "gaia_dr3", "--out", inside, "--fresh")
    assert "nothing was touched" in text
    assert (inside / "gaia.csv").stat().st_size == survey_files[0].stat().st_size


def test_other_settings_are_named_and_fresh_starts_over(survey_files, out):
    arguments = ("import", survey_files[0], "--survey", "gaia_dr3", "--out", out)
    summary(*arguments, "--max-rows", 200)
    text = refused(*arguments, "--max-rows", 100)
    assert "max_rows was 200, now 100" in text
    assert "--fresh" in text
    assert summary(*arguments, "--max-rows", 200)["resumed"] is True
    assert "resumed" not in summary(*arguments, "--max-rows", 100, "--fresh")
    assert not verify(out).problems


def test_a_directory_that_may_not_be_written(survey_files):
    if os.geteuid() == 0:
        target = Path("/proc/stellarscale-test")
    else:
        target = Path("/stellarscale-test")
    assert "cannot be made" in refused("import", survey_files[0], "--survey", "gaia_dr3", "--out", target)


PROGRAM = [sys.executable, "-m", "stellarscale.cli"]


def limited(bytes_: int):
    """Before exec: no file may grow beyond this; what a full disk does, without one."""

    def set_limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_, bytes_))

    return set_limit


def test_files_that_may_not_grow_and_the_rerun_with_room(survey_files, out):
    command = [
        *PROGRAM,
        "import",
        str(survey_files[0]),
        "--survey",
        "gaia_dr3",
        "--out",
        str(out),
        "--cluster",
        "threads:2",
    ]
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
        patched.setattr("os._exit", sys.exit)  # the program leaves at once, and these tests with it
        result = call("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    assert result.exit_code == 130
    assert "what is finished is kept" in result.stderr
    assert unfinished(out)
    assert summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)["matched"] == PAIRS
