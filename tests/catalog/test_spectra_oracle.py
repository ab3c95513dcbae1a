"""hats and LSDB as oracles of catalogues of spectra: valid, and the same rows and pixels in them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from reference.fake_spectra import GRID, SCHEMA, fake_reader, write_files

from stellarscale.catalog.import_plan import ImportConfig
from stellarscale.catalog.importer import import_files
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.spectra_columns import spectra_of

hats = pytest.importorskip("hats", reason="hats, the oracle of the format, is not installed")
lsdb = pytest.importorskip("lsdb", reason="LSDB, the other reader and writer of the format, is not installed")

pytestmark = [pytest.mark.oracle, pytest.mark.filterwarnings("ignore")]
reader = fake_reader
COUNT = 400


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    folder = tmp_path_factory.mktemp("oracle")
    write_files(folder / "in", COUNT)
    import_files([folder / "in"], SCHEMA, folder / "cat", ImportConfig(max_rows=60, files_at_once=90))
    return open_stored(folder / "cat")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    import dask

    with dask.config.set(scheduler="synchronous"):
        yield


def test_hats_finds_the_catalogue_valid(ours):
    from hats.io.validation import is_valid_catalog

    assert is_valid_catalog(ours.root, strict=True)
    catalog = hats.read_hats(ours.root)
    assert catalog.catalog_info.total_rows == COUNT
    assert "flux" in catalog.schema.names


def test_lsdb_reads_every_pixel_of_every_spectrum(ours):
    frame = lsdb.open_catalog(ours.root, columns="all").compute().sort_values("spectrum_id")
    own = read_columns(ours, ours.schema.names[1:]).sort_by("spectrum_id")
    assert frame["spectrum_id"].tolist() == own["spectrum_id"].to_pylist()
    for name in ("flux", "ivar"):
        values = np.stack([np.asarray(value, dtype=np.float32) for value in frame[name]])
        assert values.shape == (COUNT, GRID.n_pix)
        assert np.array_equal(values, spectra_of(own, name))


def test_lsdb_searches_a_cone_and_matches(ours):
    catalog = lsdb.open_catalog(ours.root, columns=["spectrum_id", "ra", "dec", "flux"])
    cone = catalog.cone_search(ra=200.0, dec=10.0, radius_arcsec=30 * 3600.0).compute()
    assert 0 < len(cone) < COUNT
    own = read_columns(ours, ["spectrum_id", "ra", "dec"]).to_pandas()
    stars = lsdb.from_dataframe(own.iloc[:50], ra_column="ra", dec_column="dec")
    found = stars.crossmatch(catalog, radius_arcsec=1.0, suffixes=("_star", "_spec")).compute()
    assert isinstance(found, pd.DataFrame)
    assert len(found) == 50
    assert all(len(flux) == GRID.n_pix for flux in found["flux_spec"])
