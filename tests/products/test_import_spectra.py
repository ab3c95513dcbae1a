"""Files of LAMOST spectra into a catalogue, by the command line: what comes out, what is refused, what is resumed."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from reference.command_line import call, summary
from reference.lamost_files import some_spectrum, write_lamost

from stellarscale.catalog import spill
from stellarscale.catalog.import_config import ImportConfig
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.engine.ledger import Ledger
from stellarscale.errors import CatalogError, ConfigError, RunError
from stellarscale.kernels.wavelength import WaveGrid
from stellarscale.products import importing, steps
from stellarscale.products.inspect import sample_rows
from stellarscale.spectra_columns import grid_of, spectra_of

COUNT = 12


@pytest.fixture(scope="module")
def spectra(tmp_path_factory) -> Path:
    """Spectra of all three layouts, and what is none: a torn file, an empty one, a note."""
    folder = tmp_path_factory.mktemp("lamost") / "in"
    for number in range(COUNT):
        layout = ("pilot", "rows", "coadd")[number % 3]
        path = folder / f"B{number // 5:03d}" / f"spec-{number:02d}.fits{'.gz' if number % 4 == 0 else ''}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_lamost(path, layout, some_spectrum(seed=number), RA=20.0 * number, DEC=5.0 * number)
    whole = (folder / "B000" / "spec-01.fits").read_bytes()
    (folder / "B000" / "torn.fits").write_bytes(whole[: len(whole) // 2])
    (folder / "B001" / "empty.fits").touch()
    (folder / "README.txt").write_text("about these spectra")
    return folder


def test_a_directory(spectra, tmp_path):
    out = tmp_path / "cat"
    told = summary("import", spectra, "--survey", "lamost_spectra", "--out", out)
    assert (told["files"], told["rows_in"], told["written"], told["rejected"]) == (COUNT + 3, COUNT + 3, COUNT, 3)
    table = read_columns(open_stored(out), open_stored(out).schema.names[1:])
    assert sorted(table["spectrum_id"].to_pylist()) == [f"spec-{number:02d}" for number in range(COUNT)]
    assert grid_of(table.schema) == WaveGrid.covering(6000.0, 8800.0)
    flux, ivar = spectra_of(table, "flux"), spectra_of(table, "ivar")
    assert np.isfinite(flux).all()
    assert (ivar[:, 20:-20] > 0).all()
    rejects = pq.read_table(out / "rejects.parquet").to_pylist()
    assert {Path(row["file"]).name for row in rejects} == {"torn.fits", "empty.fits", "README.txt"}
    assert all(row["reason"] for row in rejects)
    assert summary("verify", out)["problems"] == []
    columns = {column["name"]: column for column in summary("info", out)["columns"]}
    assert "fixed_size_list" in columns["flux"]["type"]


def test_a_list_and_a_range_of_wavelengths(spectra, tmp_path):
    (tmp_path / "chosen.list").write_text(f"{spectra}/B002\n{spectra}/B000/spec-0[13].fits\n")
    out = tmp_path / "cat"
    options = ["--survey", "lamost_spectra", "--wave-aa", "6500,7000", "--columns", "z", "--max-rows", 2]
    told = summary("import", f"@{tmp_path / 'chosen.list'}", *options, "--out", out)
    assert (told["files"], told["written"]) == (4, 4)
    stored = open_stored(out)
    assert grid_of(stored.schema) == WaveGrid.covering(6500.0, 7000.0)
    assert stored.schema.names == ["_healpix_29", "spectrum_id", "ra", "dec", "z", "quality_flags", "flux", "ivar"]
    assert max(stored.rows_of(pixel) for pixel in stored.pixels) <= 2
    run = json.loads((out / ".stellarscale" / "run.json").read_text())
    assert {(Path(item["path"]).parent.name, item["files"]) for item in run["inputs"]} == {("B000", 2), ("B002", 2)}
    assert run["settings"]["max_rows"] == 2


def test_a_finished_import_is_not_done_again_and_another_is_refused(spectra, tmp_path):
    out = tmp_path / "cat"
    words = ["import", spectra / "B002", "--survey", "lamost_spectra", "--out", out]
    summary(*words)
    assert summary(*words)["resumed"]
    told = call(*words, "--wave-aa", "6500,7000")
    assert told.exit_code != 0
    assert 'grid was "1663 pixels' in told.output
    assert summary(*words, "--wave-aa", "6500,7000", "--fresh")["written"] == 2


def test_a_killed_import_goes_on(spectra, tmp_path, monkeypatch):
    reader, calls = spill.read_spectra, []

    def counted(paths, *args, **kwargs):
        calls.append([path.name for path in paths])
        if len(calls) == 3:
            raise RunError("stopped here")
        return reader(paths, *args, **kwargs)

    monkeypatch.setattr(spill, "read_spectra", counted)
    monkeypatch.setattr(importing, "ImportConfig", partial(ImportConfig, files_at_once=4))
    with steps.session("threads:1") as on:
        with pytest.raises(RunError, match="stopped here"):
            importing.import_survey(on, [spectra], "lamost_spectra", tmp_path / "out")
        assert len(Ledger(tmp_path / "out").receipts("read")) == 3
        told = importing.import_survey(on, [spectra], "lamost_spectra", tmp_path / "out")
    assert told["resumed_partitions"] == 0
    assert (told["written"], told["rejected"]) == (COUNT, 3)
    assert len(calls) == 5
    assert calls[2] == calls[4]
    assert sorted(path.name for path in (tmp_path / "out" / ".stellarscale").iterdir() if path.is_dir()) == ["receipts"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nothing/*.fits", "--survey", "lamost_spectra"], "does not exist"),
        (["@nothing.list", "--survey", "lamost_spectra"], "list of files cannot be read"),
        ([".", "--survey", "lamost_spectra", "--wave-aa", "7000"], "two numbers with a comma"),
        ([".", "--survey", "lamost_spectra", "--wave-aa", "7000,6000"], "holds no wavelength"),
        (["x.csv", "--survey", "gaia_dr3", "--wave-aa", "6000,7000"], "no spectra"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    result = call("import", *words, "--out", tmp_path / "cat")
    assert result.exit_code != 0
    assert told in result.output
    assert not (tmp_path / "cat").exists()


def test_the_catalogue_may_lie_beside_the_spectra_and_not_around_them(spectra, tmp_path):
    with steps.session("threads:1") as on:
        importing.import_survey(on, [spectra / "B002"], "lamost_spectra", spectra / "B002" / ".cat")
        with pytest.raises(CatalogError, match="nothing was touched"):
            importing.import_survey(on, [spectra / "B002"], "lamost_spectra", spectra, fresh=True)
    assert (spectra / "README.txt").is_file()


def test_a_plot_reads_no_spectra(spectra, tmp_path):
    summary("import", spectra, "--survey", "lamost_spectra", "--out", tmp_path / "cat")
    sample = sample_rows(open_stored(tmp_path / "cat"), rows=4)
    assert sample.num_rows in range(4, 9)
    assert "snr_i" in sample.column_names
    assert not {"flux", "ivar"} & set(sample.column_names)


def test_a_grid_needs_spectra():
    with pytest.raises(ConfigError, match="no spectra"):
        importing.grid_within("gaia_dr3", (6000.0, 7000.0))
    assert importing.grid_within("lamost_spectra", (6000.0, 8800.0)).n_pix == 1663
