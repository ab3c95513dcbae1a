"""The command line itself: help, options, summaries, exit codes, and the real process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reference.command_line import PAIRS, ROWS, call, import_both, refused, summary

from stellarscale import __version__
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.cli import main
from stellarscale.config import load_job

PROGRAM = [sys.executable, "-m", "stellarscale.cli"]
HEAVY = ("numpy", "pandas", "pyarrow", "dask", "distributed", "astropy", "healpy", "numba", "sklearn", "scipy",
         "matplotlib", "torch", "xgboost", "pydantic", "yaml")  # fmt: skip


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory) -> tuple[Path, Path]:
    return import_both(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


def pairs(root: Path) -> list[tuple[int, str]]:
    table = read_columns(open_stored(root), ["source_id", "user_id"])
    return sorted(zip(table["source_id"].to_pylist(), table["user_id"].to_pylist(), strict=True))


# ---- help and version


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_explains_itself(name):
    text = call(name, "--help").stdout
    command = main.commands[name]
    assert command.help.split(".")[0].split("\n")[0][:40] in " ".join(text.split())
    for parameter in command.params:
        for word in parameter.opts:
            if word.startswith("--"):
                assert word in text
        if parameter.param_type_name == "option":
            assert parameter.help, f"--{parameter.name} says nothing"


def test_the_list_of_commands_is_the_contract():
    assert set(main.commands) == {
        "demo", "simulate", "import", "crossmatch", "run", "info", "verify", "export", "plot", "status", "report",
        "bench", "keys", "adql", "cutouts",
    }  # fmt: skip
    text = call("--help").stdout
    assert all(name in text for name in main.commands)
    assert __version__ in call("--version").stdout


def test_help_needs_no_heavy_package():
    code = (
        "import sys; from click.testing import CliRunner; from stellarscale.cli import main; "
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0; "
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0; "
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_looking_at_a_catalogue_needs_no_learning_and_no_plotting(catalogs):
    code = (
        "import sys; from click.testing import CliRunner; from stellarscale.cli import main; "
        f"assert CliRunner().invoke(main, ['info', {str(catalogs[0])!r}]).exit_code == 0; "
        "print(sorted({'sklearn', 'torch', 'xgboost', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- summaries


def test_a_match_says_what_it_did_to_people_and_to_programs(catalogs, out, tmp_path):
    done = summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)
    assert {"rows_in", "matched", "written", "seconds"} <= done.keys()
    assert (done["rows_in"], done["matched"], done["written"]) == (ROWS, PAIRS, PAIRS)
    assert done["seconds"] > 0
    assert abs(done["median_separation_arcsec"] - 0.036) < 1e-6
    text = call("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", tmp_path / "again").stdout
    lines = {line[:24].strip(): line[24:].strip() for line in text.splitlines()}
    assert lines["rows in"] == str(ROWS)
    assert lines["matched"] == str(PAIRS)
    assert lines["rejected"] == "none"


def test_left_match_keeps_every_row(catalogs, out):
    done = summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--how", "left", "--out", out)
    assert (done["rows_in"], done["matched"], done["written"]) == (ROWS, PAIRS, ROWS)
    assert read_columns(open_stored(out), ["user_id"])["user_id"].null_count == ROWS - PAIRS


def test_every_pair_kept_is_a_sound_catalogue_although_ids_repeat(catalogs, out):
    done = summary("crossmatch", *catalogs, "--radius-arcsec", 600, "--keep", "all", "--out", out)
    ids = read_columns(open_stored(out), ["source_id"])["source_id"].to_pylist()
    assert len(set(ids)) < len(ids) == done["matched"]
    assert summary("verify", out)["problems"] == []


def test_import_accounts_for_every_row(catalogs):
    state = json.loads((catalogs[0] / ".stellarscale" / "run.json").read_text())["finished"]
    assert state["rows_in"] == state["written"] + state["rejected"] == ROWS
    assert not (catalogs[0] / ".stellarscale" / "import").exists()


def test_a_margin_is_written_beside_the_catalogue(tmp_path):
    gaia, _ = import_both(tmp_path)
    again = summary("import", tmp_path / "gaia.csv", "--survey", "gaia_dr3", "--out", gaia, "--max-rows", 150,
                    "--margin-arcsec", 30)  # fmt: skip
    margin = open_stored(again["margin"])
    assert margin.properties.kind == "margin"
    assert margin.num_rows > 0


def test_simulate_says_what_it_wrote(tmp_path):
    done = summary("simulate", "--rows", 300, "--seed", 2, "--out", tmp_path / "sky")
    assert json.dumps(done)
    assert (tmp_path / "sky" / "manifest.json").is_file()
    text = call("simulate", "--rows", 300, "--seed", 2, "--out", tmp_path / "sky2").stdout
    assert max(map(len, text.splitlines())) < 120 + len(str(tmp_path))
    assert text.splitlines()[-1].endswith(f"stellarscale run demo --set data={tmp_path / 'sky2'}")


# ---- options


@pytest.mark.parametrize(
    "subset, share",
    [
        ("cone:0,10,0.5", lambda ra, dec: None),
        ("box:359.5,0.5,9.5,10.5", lambda ra, dec: (ra >= 359.5 or ra <= 0.5) and 9.5 <= dec <= 10.5),
        ("box:-0.5,0.5,9.5,10.5", lambda ra, dec: (ra >= 359.5 or ra <= 0.5) and 9.5 <= dec <= 10.5),
        ("polygon:359.5,9.5;0.5,9.5;0,10.5", lambda ra, dec: None),
        ("pixels:3/304,3/305", lambda ra, dec: None),
        ("sample:0.5", lambda ra, dec: None),
    ],
)
def test_a_subset_gives_some_of_the_pairs_of_the_whole(catalogs, tmp_path, subset, share):
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", tmp_path / "whole")
    done = summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--subset", subset, "--out", tmp_path / "part")
    whole, part = pairs(tmp_path / "whole"), pairs(tmp_path / "part")
    assert 0 < len(part) < len(whole)
    assert set(part) <= set(whole)
    assert done["rows_in"] < ROWS
    rows = summary("export", tmp_path / "whole", "--subset", subset, "--out", tmp_path / "part.csv")["rows"]
    assert rows == len(part)
    table = read_columns(open_stored(tmp_path / "whole"), ["ra", "dec"]).to_pylist()
    inside = [share(row["ra"], row["dec"]) for row in table]
    assert None in inside or sum(inside) == len(part)


@pytest.mark.parametrize(
    "subset, words",
    [
        ("circle:1,2,3", "not understood"),
        ("cone:1,2", "2 numbers where 3 are needed"),
        ("cone:1,2,x", "cannot be read"),
        ("cone:1,2,nan", "finite"),
        ("cone:1,95,1", "-90 and 90"),
        ("box:1,2,5,4", "below"),
        ("box:1,1,4,5", "differ"),
        ("polygon:1,2;3,4", "three or more"),
        ("pixels:3", "ORDER/IPIX"),
        ("pixels:1/99", "ORDER/IPIX"),
        ("sample:0", "fraction"),
        ("sample:a", "cannot be read"),
        ("", "not understood"),
    ],
)
def test_a_wrong_subset_is_told_with_the_forms(catalogs, out, subset, words):
    text = refused("crossmatch", *catalogs, "--radius-arcsec", 1, "--subset", subset, "--out", out)
    assert words in text
    assert repr(subset) in text
    assert "cone:RA,DEC,RADIUS_DEG" in text
    assert not out.exists()


@pytest.mark.parametrize(
    "option, value, code, words",
    [
        ("--radius-arcsec", "-1", 1, "greater than 0"),
        ("--radius-arcsec", "nan", 1, "radius_arcsec"),
        ("--radius-arcsec", "1e6", 1, "3600"),
        ("--radius-arcsec", "one", 2, "not a valid float"),
        ("--epoch", "soon", 2, "neither a year nor 'rows'"),
        ("--epoch", "nan", 1, "a year"),
        ("--keep", "best", 2, "nearest"),
        ("--how", "outer", 2, "inner"),
        ("--cluster", "fibres:3", 1, "threads[:N]"),
        ("--cluster", "threads:none", 1, "positive whole number"),
        ("--prefx", "a", 2, "--prefix"),
    ],
)
def test_a_wrong_option_is_told_before_any_work(catalogs, out, option, value, code, words):
    options = {"--radius-arcsec": "1", option: value}
    words_given = [part for pair in options.items() for part in pair]
    assert words in refused("crossmatch", *catalogs, "--out", out, *words_given, code=code)
    assert not out.exists()


@pytest.mark.parametrize("option", ["--max-rows=0", "--margin-arcsec=-3", "--max-rows=many"])
def test_a_wrong_number_of_an_import(catalogs, out, option):
    file = catalogs[0].parent / "gaia.csv"
    assert option.split("=")[0] in refused("import", file, "--survey", "gaia_dr3", "--out", out, option, code=2)
    assert not out.exists()


# ---- jobs


@pytest.mark.parametrize(
    "override, words",
    [
        ("sed=3", "did you mean 'seed'"),
        ("training.forest.n_estimator=3", "did you mean 'n_estimators'"),
        ("seed", "KEY=VALUE"),
        ("=3", "KEY=VALUE"),
        ("seed=[", "not valid YAML"),
        ("seed=ten", "seed"),
        ("seed.deeper=1", "no keys"),
        ("match.chain=3", "a list"),
        ("features.colours=[g-x]", "declared"),
        ("catalogs.gaia.survey=gaia_dr4", "gaia_dr3"),
    ],
)
def test_a_wrong_override_is_told(mock_sky, out, override, words):
    text = refused("run", "demo", "--set", f"data={mock_sky}", "--set", f"out={out}", "--set", override)
    assert words in text
    assert not list(out.rglob("hats.properties"))


@pytest.mark.parametrize(
    "content, words",
    [
        (b"product: sages\nname: [\n", "not valid YAML"),
        (b"name: a\n\tb: c\n", "line 2"),
        (b"\xff\xfename", "not UTF-8"),
        (b"- a\n", "no settings"),
        (b"", "no settings"),
        (b"product: sages\nname: a\nout: b\n", "catalogs is missing"),
        (b"product: sages\nnam: a\n", "did you mean 'name'"),
    ],
)
def test_a_broken_job_file(tmp_path, content, words):
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    text = refused("run", path)
    assert words in text
    assert str(path) in text


def test_a_job_that_is_not_there_lists_the_shipped_ones(tmp_path):
    assert "demo" in refused("run", tmp_path / "nothing.yaml")


def test_a_job_without_its_files_says_how_to_name_them(tmp_path):
    text = refused("run", "demo", "--set", f"data={tmp_path}", "--dry-run")
    where = text.partition("Where: ")[2].partition(". Seen:")[0]
    assert where == ", ".join(f"catalogs.{name}" for name in load_job("demo").used_catalogs)
    assert "--set data=" in text


def test_a_dry_run_says_what_would_be_done_and_does_nothing(mock_sky, out):
    done = summary("run", "demo", "--set", f"data={mock_sky}", "--set", f"out={out}", "--dry-run")
    assert done["match"].startswith("gaia x sages")
    assert all(Path(path).is_file() for paths in done["inputs"].values() for path in paths)
    assert not out.exists()
    assert "cone:RA" in refused("run", "demo", "--set", f"data={mock_sky}", "--subset", "cone:1", "--dry-run")


def test_a_run_never_deletes_its_input(mock_sky):
    before = sorted(str(path) for path in mock_sky.rglob("*"))
    text = refused("run", "demo", "--set", f"data={mock_sky}", "--set", f"out={mock_sky}", "--fresh")
    assert "nothing was touched" in text
    assert sorted(str(path) for path in mock_sky.rglob("*")) == before


def test_report_of_no_run(tmp_path):
    assert "no finished run" in refused("report", tmp_path)


def test_bench_lists_its_names():
    assert "no bench of this name" in refused("bench", "nosuch")


# ---- the process itself


def test_the_real_exit_codes(catalogs, out):
    good = [*PROGRAM, "info", str(catalogs[0]), "--json"]
    done = subprocess.run(good, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert json.loads(done.stdout)["rows"] == ROWS
    bad = subprocess.run([*PROGRAM, "info", str(out)], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("Error: ")
    assert "Traceback" not in bad.stderr


def test_ctrl_c_ends_the_process_without_a_traceback_and_the_rerun_completes(catalogs, out):
    command = [*PROGRAM, "crossmatch", *map(str, catalogs), "--radius-arcsec", "1", "--out", str(out)]
    command += ["--cluster", "threads:1"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / ".stellarscale" / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    if process.returncode:  # it may have been too fast to be interrupted
        assert process.returncode == 130, errors
        assert "what is finished is kept" in errors
        assert "Traceback" not in errors
        assert not (out / "dataset" / "_metadata").exists()
    assert summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", out)["matched"] == PAIRS
    assert not verify(out).problems


def test_a_closed_pipe_is_no_traceback(catalogs):
    command = " ".join([*PROGRAM, "info", str(catalogs[0])]) + " | true"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert "Traceback" not in done.stderr
