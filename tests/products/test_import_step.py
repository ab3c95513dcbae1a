"""The import as the engine runs it: stopped at its very end, it still ends well."""

from __future__ import annotations

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.csv as csv
import pytest

from stellarscale.catalog.reader import open_stored
from stellarscale.engine.ledger import Ledger
from stellarscale.products import importing, steps


@pytest.fixture
def stars(tmp_path):
    rng = np.random.default_rng(8)
    table = pa.table({"source_id": np.arange(500), "ra": rng.uniform(0, 360, 500), "dec": rng.uniform(-90, 90, 500)})
    path = tmp_path / "stars.csv"
    csv.write_csv(table, path)
    return path


def test_stopped_between_the_last_file_and_the_summary(stars, tmp_path, monkeypatch):
    out = tmp_path / "out"

    def stop(self, summary):
        raise KeyboardInterrupt

    with steps.session("threads:1") as on:
        with monkeypatch.context() as patch:
            patch.setattr(Ledger, "finish", stop)
            with pytest.raises(KeyboardInterrupt):
                importing.import_survey(on, [stars], "user_table", out)
        written = {path: path.stat().st_mtime_ns for path in out.rglob("Npix=*.parquet")}
        summary = importing.import_survey(on, [stars], "user_table", out)
    assert summary["written"] == open_stored(out).num_rows == 500
    assert {path: path.stat().st_mtime_ns for path in out.rglob("Npix=*.parquet")} == written
    assert sorted(path.name for path in (out / ".stellarscale").iterdir()) == ["lock", "receipts", "run.json"]


def test_stopped_while_the_spilled_rows_are_removed(stars, tmp_path, monkeypatch):
    out = tmp_path / "out"

    real = shutil.rmtree

    def stop(path, *args, **kwargs):
        if path.name.startswith("removed-"):
            raise KeyboardInterrupt
        real(path, *args, **kwargs)

    with steps.session("threads:1") as on:
        with monkeypatch.context() as patch:
            patch.setattr("stellarscale.catalog.importer.shutil.rmtree", stop)
            with pytest.raises(KeyboardInterrupt):
                importing.import_survey(on, [stars], "user_table", out)
        assert importing.import_survey(on, [stars], "user_table", out)["resumed"]
    assert sorted(path.name for path in (out / ".stellarscale").iterdir()) == ["lock", "receipts", "run.json"]


def test_only_the_chosen_columns_are_imported(tmp_path):
    path = tmp_path / "stars.csv"
    path.write_text("source_id,ra,dec,phot_g_mean_mag,ruwe,parallax\n1,10,20,15.5,1.1,2.5\n")
    with steps.session("threads:2") as on:
        summary = importing.import_survey(on, [path], "gaia_dr3", tmp_path / "out", columns=["parallax"])
    assert summary["written"] == 1
    names = open_stored(tmp_path / "out").schema.names
    assert names == ["_healpix_29", "source_id", "ra", "dec", "parallax", "quality_flags"]
