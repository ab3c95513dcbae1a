"""Views of a catalogue of spectra: parts of the sky, dask, and crossmatches on either side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
import pytest
from reference.fake_spectra import COUNT, GRID, pixels_of

from stellarscale.catalog.import_plan import ImportConfig
from stellarscale.catalog.importer import import_files
from stellarscale.catalog.reader import read_columns, read_pixel
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.verify import verify
from stellarscale.engine.lazy import open_catalog
from stellarscale.schema import load_survey
from stellarscale.spectra_columns import grid_of, spectra_of


def test_views(spectra_cat):
    view = open_catalog(spectra_cat.root)
    cone = view.cone(200.0, 10.0, 30.0).compute()
    box = view.box(350.0, 20.0, -30.0, 30.0).columns(["snr_i", "flux"]).compute()
    whole = view.compute()
    inside = parse_subset("cone:200,10,30").mask(whole, "ra", "dec")
    assert 0 < cone.num_rows == inside.sum()
    assert spectra_of(cone, "flux").tolist() == spectra_of(whole.filter(pa.array(inside)), "flux").tolist()
    assert box.column_names == ["_healpix_29", "snr_i", "flux"]
    assert box.num_rows == parse_subset("box:350,20,-30,30").mask(whole, "ra", "dec").sum() > 0


def test_columns_that_are_not_chosen_are_not_read(spectra_cat, monkeypatch):
    from stellarscale.engine import lazy

    seen = []
    monkeypatch.setattr(lazy, "read_pixel", lambda *a, **k: seen.append(k["columns"]) or read_pixel(*a, **k))
    view = open_catalog(spectra_cat.root).cone(200.0, 10.0, 40.0).columns(["snr_i"])
    assert view.compute().column_names == ["_healpix_29", "snr_i"]
    assert all("flux" not in columns for columns in seen)
    assert len(seen) > 0


def test_a_view_is_written_with_its_grid(spectra_cat, tmp_path):
    written = open_catalog(spectra_cat.root).cone(200.0, 10.0, 30.0).write(tmp_path / "part")
    assert grid_of(written.schema) == GRID
    assert verify(tmp_path / "part").ok


def test_dask_holds_spectra_as_arrow_not_as_objects(spectra_cat):
    frame = open_catalog(spectra_cat.root).to_dask()
    assert all(str(kind) != "object" for kind in frame.dtypes)
    assert "fixed_size_list" in str(frame.dtypes["flux"])
    computed = frame[["snr_i", "flux"]].compute()
    assert len(computed) == COUNT
    assert "fixed_size_list" in str(computed.dtypes["flux"])
    assert len(computed["flux"].iloc[0]) == GRID.n_pix
    assert frame["snr_i"].mean().compute() == pytest.approx(float(computed["snr_i"].mean()), rel=1e-5)


def stars_near(spectra_cat, tmp_path: Path):
    """A catalogue of a star beside each third spectrum, named after it."""
    table = read_columns(spectra_cat, ["spectrum_id", "ra", "dec"])
    table = table.take(pa.array(np.arange(0, COUNT, 3)))
    rows = pa.table(
        {
            "source_id": pa.array([int(name[-5:]) for name in table["spectrum_id"].to_pylist()]),
            "ra": table["ra"],
            "dec": pa.array(np.clip(table["dec"].to_numpy() + 0.1 / 3600, -90, 90)),
        }
    )
    path = tmp_path / "stars.csv"
    pcsv.write_csv(rows, path)
    schema = load_survey("user_table")
    import_files([path], schema, tmp_path / "stars", ImportConfig(max_rows=100))
    return tmp_path / "stars"


def test_crossmatch_with_spectra_on_the_left(spectra_cat, tmp_path):
    stars = stars_near(spectra_cat, tmp_path)
    matched = open_catalog(spectra_cat.root).crossmatch(stars, radius_arcsec=1.0, prefix="star_", how="left")
    table = matched.compute()
    assert table.num_rows == COUNT
    assert grid_of(table.schema) == GRID
    found = table.filter(pc.is_valid(table["star_source_id"]))
    assert found.num_rows >= COUNT // 3
    flux = spectra_of(table, "flux")
    for row in (0, 411, 899):
        number = int(table["spectrum_id"][row].as_py()[-5:])
        level = flux[row, 0] / (1 + 0.3 * np.sin(GRID.wave_aa[0] / (20 + number % 7)))
        assert np.allclose(flux[row], pixels_of(level, number)[0], rtol=1e-5)


def test_crossmatch_with_spectra_on_the_right(spectra_cat, tmp_path):
    stars = stars_near(spectra_cat, tmp_path)
    matched = open_catalog(stars).crossmatch(spectra_cat.root, radius_arcsec=1.0, prefix="spec_", how="left")
    table = matched.compute()
    assert table.num_rows == COUNT // 3
    assert table["spec_flux"].null_count == 0
    assert grid_of(table.schema, "spec_flux") == GRID
    assert matched.write(tmp_path / "matched").stored.num_rows == COUNT // 3
    assert verify(tmp_path / "matched").ok
    far = open_catalog(stars).crossmatch(spectra_cat.root, radius_arcsec=0.01, prefix="spec_", how="left").compute()
    assert far["spec_flux"].null_count == far.num_rows
    assert (spectra_of(far, "spec_ivar") == 0).all()
