"""What info, verify, export, status and plot say of catalogues whole, damaged and empty."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table
from reference.command_line import ROWS, call, import_both, refused, summary

from stellarscale.catalog.reader import open_stored
from stellarscale.engine.ledger import Ledger, open_ledger, write_json
from stellarscale.products.inspect import sample_rows, sky_counts


@pytest.fixture(scope="module")
def catalogs(tmp_path_factory) -> tuple[Path, Path]:
    return import_both(tmp_path_factory.mktemp("catalogs"))


@pytest.fixture
def copy(catalogs, tmp_path) -> Path:
    return Path(shutil.copytree(catalogs[0], tmp_path / "copy"))


def partition(root: Path) -> Path:
    return sorted(root.rglob("Npix=*.parquet"))[1]


def test_info_is_machine_readable(catalogs):
    done = summary("info", catalogs[0])
    assert (done["rows"], done["partitions"]) == (ROWS, len(open_stored(catalogs[0]).pixels))
    columns = {column["name"]: column for column in done["columns"]}
    assert columns["pmra"]["unit"] == "mas/yr"
    assert columns["source_id"]["type"] == "int64"
    assert "declination" in columns["dec"]["description"]
    assert done["properties"]["stellarscale_survey"] == "gaia_dr3"


def test_info_is_readable(catalogs):
    text = call("info", catalogs[0]).stdout
    assert "columns:" in text
    rows = [line.split() for line in text.split("columns:")[1].splitlines() if line]
    assert rows[0] == ["name", "type", "unit", "description"]
    assert ["pmra", "double", "mas/yr"] in [row[:3] for row in rows]


def test_a_matched_catalogue_does_not_claim_the_counts_of_the_import(catalogs, tmp_path):
    summary("crossmatch", *catalogs, "--radius-arcsec", 1, "--out", tmp_path / "m")
    properties = summary("info", tmp_path / "m")["properties"]
    assert "stellarscale_rows_in" not in properties
    assert properties["stellarscale_pmra"] == "pmra"
    assert "stellarscale_rows_in" in summary("info", catalogs[0])["properties"]


def problems(root: Path, *options: str) -> list[str]:
    result = call("verify", root, "--json", *options)
    found = json.loads(result.stdout)["problems"]
    assert result.exit_code == bool(found)
    return found


def test_a_sound_catalogue(catalogs):
    for path in catalogs:
        assert problems(path) == []
        assert problems(path, "--quick") == []
    assert "problems: none" in call("verify", catalogs[0]).stdout


def test_every_flipped_byte_is_found(copy):
    path = partition(copy)
    whole = path.read_bytes()
    for place in range(5, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        found = problems(copy)
        assert found, f"byte {place}"
        assert path.name in " ".join(found)
    path.write_bytes(whole)
    assert problems(copy) == []


@pytest.mark.parametrize("options", [(), ("--quick",)])
def test_a_truncated_partition(copy, options):
    path = partition(copy)
    path.write_bytes(path.read_bytes()[:-60])
    assert f"{path.relative_to(copy)}: a partition's file is damaged" in problems(copy, *options)[0]


@pytest.mark.parametrize("options", [(), ("--quick",)])
def test_a_deleted_partition(copy, options):
    path = partition(copy)
    path.unlink()
    assert problems(copy, *options)[0].startswith(f"{path.relative_to(copy)}: the file is missing")


def test_a_partition_that_nobody_listed(copy):
    shutil.copy(partition(copy), partition(copy).with_name("Npix=77.parquet"))
    assert "Npix=77.parquet" in problems(copy)[0]


def test_a_partition_with_rows_less(copy):
    path = partition(copy)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(table.slice(1), path)
    found = " ".join(problems(copy, "--quick"))
    assert str(table.num_rows - 1) in found
    assert path.name in found


@pytest.mark.parametrize("name", ["hats.properties", "dataset/_metadata", "partition_info.csv"])
def test_a_missing_file_of_the_catalogue(copy, name):
    (copy / name).unlink()
    if name == "hats.properties":
        (copy / "properties").unlink()
    assert name.split("/")[-1] in " ".join(problems(copy))


@pytest.mark.parametrize(
    "name", ["hats.properties", "dataset/_metadata", "dataset/_common_metadata", "partition_info.csv"]
)
def test_a_damaged_file_of_the_catalogue_is_no_traceback(copy, name):
    for content in (b"", b"\x00\xff\xfe nonsense", b"a,b\nc,d\n"):
        (copy / name).write_bytes(content)
        assert problems(copy), content
        result = call("info", copy)
        assert result.exit_code in (0, 1)
        result = call("export", copy, "--out", copy.parent / "x.csv")
        assert result.exit_code in (0, 1)
        assert result.exit_code == 0 or result.stderr.startswith("Error: ")


@pytest.mark.parametrize("command", ["info", "verify", "export", "plot"])
def test_what_is_no_catalogue(tmp_path, command):
    (tmp_path / "notes.txt").touch()
    options = ["--out", tmp_path / "o.csv"] if command in {"export", "plot"} else []
    for place, words in ((tmp_path, "notes.txt"), (tmp_path / "notes.txt", "no such"), (tmp_path / "x", "no such")):
        result = call(command, place, *options)
        assert result.exit_code == 1
        assert words in result.output
        assert str(place) in result.output
    assert not (tmp_path / "o.csv").exists()


# ---- export


@pytest.mark.parametrize("name", ["a.fits", "a.csv", "a.vot", "a.xml", "a.parquet", "A.FITS"])
def test_the_suffix_names_the_format(catalogs, tmp_path, name):
    done = summary("export", catalogs[0], "--out", tmp_path / name, "--columns", "source_id,ra, dec")
    assert done["rows"] == ROWS
    suffix = name.split(".")[1].lower()
    kind = {"csv": "ascii.csv", "vot": "votable", "xml": "votable"}.get(suffix, suffix)
    table = Table.read(tmp_path / name, format=kind)
    assert table.colnames == ["source_id", "ra", "dec"]
    assert len(table) == ROWS


def test_a_format_may_be_named_instead(catalogs, tmp_path):
    summary("export", catalogs[0], "--out", tmp_path / "table.dat", "--format", "csv")
    assert (tmp_path / "table.dat").read_text().startswith('"_healpix_29"')


@pytest.mark.parametrize(
    "options, words",
    [
        (["--out", "a.xyz"], ".fits .fit .csv"),
        (["--out", "a"], "no suffix"),
        (["--out", "a.csv", "--columns", "ra,decl"], "'decl'"),
        (["--out", "a.csv", "--columns", ""], "no such column"),
        (["--out", "a.csv", "--subset", "cone:1"], "cone:RA"),
    ],
)
def test_an_export_that_cannot_be(catalogs, tmp_path, monkeypatch, options, words):
    monkeypatch.chdir(tmp_path)
    assert words in refused("export", catalogs[0], *options)
    assert list(tmp_path.iterdir()) == []


def test_an_export_of_a_damaged_catalogue_leaves_the_old_file(copy, tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("old")
    partition(copy).unlink()
    assert "missing" in refused("export", copy, "--out", target)
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir() if path != copy] == ["a.csv"]


def test_an_export_over_a_directory(catalogs, tmp_path):
    (tmp_path / "a.csv").mkdir()
    assert "a.csv" in refused("export", catalogs[0], "--out", tmp_path / "a.csv")
    assert list((tmp_path / "a.csv").iterdir()) == []


# ---- status


def test_status_of_a_finished_import(catalogs):
    steps = summary("status", catalogs[0])["steps"]
    assert [(step["step"], step["state"], step["rows"]) for step in steps] == [("import", "finished", ROWS)]


def test_status_of_an_unfinished_step(tmp_path):
    ledger = open_ledger(tmp_path / "out", step="crossmatch", digest="d", about={})
    assert summary("status", tmp_path)["steps"][0]["tasks_done"] == 0
    write_json(ledger.receipt_path("crossmatch", "0/1"), {"key": "0/1", "rows_out": 5})
    (step,) = summary("status", tmp_path)["steps"]
    assert (step["state"], step["tasks_done"], step["rows"]) == ("failed or killed", 1, 5)
    assert "failed or killed" in call("status", tmp_path).stdout


def test_status_tells_a_running_step_from_one_that_was_killed(tmp_path):
    ledger = open_ledger(tmp_path / "out", step="crossmatch", digest="d", about={})
    with ledger.working("crossmatch", 7):
        write_json(ledger.receipt_path("crossmatch", "0/1"), {"key": "0/1", "rows_out": 5})
        (step,) = summary("status", tmp_path)["steps"]
        assert (step["state"], step["tasks_done"], step["tasks"]) == ("running", 1, 7)
        for process, state in (
            ({"host": socket.gethostname(), "pid": 2**22 + 1}, "failed or killed"),
            ({"host": "node7", "pid": 1}, "not finished, on node7"),
        ):
            write_json(ledger.root / "run.json", {**ledger.run(), "process": process})
            assert summary("status", tmp_path)["steps"][0]["state"] == state
    ledger.stopped()
    assert summary("status", tmp_path)["steps"][0]["state"] == "failed or killed"


def test_status_lists_what_a_run_took_from_a_shared_store_in_the_order_of_making(tmp_path):
    store, run = tmp_path / "store", tmp_path / "run"
    times = iter(f"2026-01-01T00:00:0{second}+00:00" for second in range(9))

    def make(out: Path, step: str, *inputs: Path) -> Path:
        about = {"inputs": [{"path": str(path)} for path in inputs]}
        ledger = open_ledger(out, step=step, digest="d", about=about)
        write_json(ledger.root / "run.json", {**ledger.run(), "started_at": next(times), "finished": {}})
        return out

    gaia = make(store / "gaia", "import", tmp_path / "gaia.csv")
    make(store / "not_of_this_run", "import")
    matched = make(store / "gaia_x_sages", "crossmatch", gaia)
    make(run, "run")
    make(run / "catalog", "predict", matched)
    said = summary("status", run)
    assert [step["where"] for step in said["steps"]] == [str(gaia), str(matched), "catalog"]
    assert said["finished"] == "3 of the 3 steps begun"


def test_status_of_nothing(tmp_path):
    assert "no run here" in refused("status", tmp_path)
    assert "no run here" in refused("status", tmp_path / "absent")


def test_status_of_a_damaged_receipt(tmp_path):
    open_ledger(tmp_path / "out", step="crossmatch", digest="d", about={})
    path = Ledger(tmp_path / "out").root / "run.json"
    path.write_text('{"step": ')
    assert str(path) in refused("status", tmp_path)


# ---- what the report and the plots take


def test_a_sample_is_thinned_along_the_whole_sky(catalogs):
    stored = open_stored(catalogs[0])
    assert sample_rows(stored).num_rows == ROWS
    thin = sample_rows(stored, rows=100)
    assert 90 <= thin.num_rows <= 130
    keys = thin["_healpix_29"].to_numpy()
    assert all(((keys >= pixel.first) & (keys < pixel.last)).any() for pixel in stored.pixels)


def test_sky_counts_count_every_row(catalogs):
    counts = sky_counts(open_stored(catalogs[0]))
    assert counts.counts.sum() == ROWS
    assert len(counts.ipix) == len(set(counts.ipix.tolist()))


def test_plot_draws_what_the_columns_allow(catalogs, tmp_path):
    done = summary("plot", catalogs[0], "--out", tmp_path / "plots")
    assert done["files"]
    assert all(Path(path).read_bytes().startswith(b"\x89PNG") for path in done["files"])


def test_plot_of_an_empty_catalogue(tmp_path):
    (tmp_path / "t.csv").write_text("source_id,ra,dec\n")
    summary("import", tmp_path / "t.csv", "--survey", "gaia_dr3", "--out", tmp_path / "empty")
    assert sample_rows(open_stored(tmp_path / "empty")).schema.names[0] == "_healpix_29"
    assert isinstance(sample_rows(open_stored(tmp_path / "empty")), pa.Table)
    result = call("plot", tmp_path / "empty", "--out", tmp_path / "plots")
    assert result.exit_code in (0, 1)


def test_the_table_of_paper_one_is_for_one_product(copy, tmp_path):
    for file in (copy / "properties", copy / "hats.properties"):
        if file.exists():
            file.write_text(file.read_text() + "stellarscale_product=acf\n")
    error = refused("export", copy, "--paper-table", tmp_path / "t.fits")
    assert "not for product acf" in error
    assert not (tmp_path / "t.fits").exists()
