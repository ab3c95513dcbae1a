"""Spectra for other programs: FITS, Parquet, CSV, VOTable."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from reference.fake_spectra import COUNT, GRID

from stellarscale.catalog.export import export
from stellarscale.catalog.reader import read_pixel
from stellarscale.catalog.subset import parse_subset
from stellarscale.engine.lazy import open_catalog
from stellarscale.errors import SchemaError
from stellarscale.spectra_columns import grid_of, spectra_of


def test_export_to_fits(spectra_cat, tmp_path):
    from astropy.io import fits

    assert export(spectra_cat, tmp_path / "x.fits", format="fits") == COUNT
    whole = pa.concat_tables([read_pixel(spectra_cat, pixel) for pixel in spectra_cat.pixels])
    with fits.open(tmp_path / "x.fits") as hdus:
        hdus.verify("exception")
        header, data = hdus[1].header, hdus[1].data
        place = data.names.index("flux") + 1
        assert header[f"TFORM{place}"] == f"{GRID.n_pix}E"
        assert np.array_equal(data["flux"], spectra_of(whole, "flux"))
        assert np.array_equal(data["ivar"], spectra_of(whole, "ivar"))
        assert data["spectrum_id"].tolist() == whole["spectrum_id"].to_pylist()


def test_export_of_a_part_of_the_sky(spectra_cat, tmp_path):
    subset = parse_subset("cone:200,10,30")
    rows = export(spectra_cat, tmp_path / "x.parquet", format="parquet", subset=subset, columns=["spectrum_id", "flux"])
    assert rows == open_catalog(spectra_cat.root).cone(200, 10, 30).compute().num_rows
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["spectrum_id", "flux"]
    assert grid_of(table.schema) == GRID


def test_export_to_csv_leaves_the_spectra_out_and_says_so(spectra_cat, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert export(spectra_cat, tmp_path / "x.csv", format="csv") == COUNT
    assert "flux, ivar left out" in caplog.text
    assert pcsv.read_csv(tmp_path / "x.csv").column_names == [
        *("_healpix_29", "spectrum_id", "ra", "dec", "snr_i", "quality_flags")
    ]
    with pytest.raises(SchemaError, match="flux"):
        export(spectra_cat, tmp_path / "y.csv", format="csv", columns=["ra", "flux"])


def test_export_to_votable(spectra_cat, tmp_path):
    from astropy.io.votable import parse, validate

    export(spectra_cat, tmp_path / "x.vot", format="votable")
    table = parse(tmp_path / "x.vot", verify="exception").get_first_table()
    field = next(field for field in table.fields if field.name == "flux")
    assert (field.datatype, field.arraysize) == ("float", str(GRID.n_pix))
    assert table.array["flux"].shape == (COUNT, GRID.n_pix)
    with (tmp_path / "log").open("w") as log:
        assert validate(str(tmp_path / "x.vot"), output=log)


def test_votable_metadata_of_a_partition(spectra_cat):
    import io

    from astropy.io.votable import parse

    path = next(spectra_cat.root.rglob("Npix=*.parquet"))
    xml = pq.read_metadata(path).metadata[b"IVOA.VOTable-Parquet.content"]
    fields = {field.name: field for field in parse(io.BytesIO(xml), verify="exception").get_first_table().fields}
    assert fields["ivar"].arraysize == str(GRID.n_pix)
    assert fields["ivar"].ucd == "stat.weight;phot.flux.density"
    assert fields["flux"].description
