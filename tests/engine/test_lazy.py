"""The lazy catalogue: parts of the sky, columns, matches, Dask dataframes and writing, against plain tables."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from reference.mock_catalog import mock_table, write_mock

import stellarscale
from stellarscale.catalog.properties import CatalogProperties
from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.catalog.verify import verify
from stellarscale.catalog.writer import WriteOptions, finish_catalog, write_pixel
from stellarscale.config import MatchStep
from stellarscale.errors import CatalogError, ConfigError, SchemaError
from stellarscale.kernels.healpix import pixel_of
from stellarscale.products.matching import match_catalogs
from stellarscale.products.steps import session

PATCH = (0.3, 12.0, 4.0)
ROWS = 2500


def moved(table: pa.Table, arcsec: float) -> pa.Table:
    """The same stars a little further north, every third one missing, twice in a hundred a rival nearby."""
    rng = np.random.default_rng(8)
    keep = np.arange(table.num_rows) % 3 > 0
    dec = table["dec"].to_numpy() + rng.normal(0, arcsec / 3600.0, table.num_rows)
    other = table.set_column(table.schema.get_field_index("dec"), table.schema.field("dec"), pa.array(dec))
    other = other.filter(pa.array(keep)).select(["source_id", "ra", "dec", "gmag"])
    sky = pixel_of(other["ra"].to_numpy(), other["dec"].to_numpy())
    order = np.argsort(sky, kind="stable")
    return other.take(order).add_column(0, pa.field("_healpix_29", pa.int64()), pa.array(sky[order]))


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return mock_table(ROWS, seed=4, patch=PATCH)


@pytest.fixture(scope="module")
def root(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("lazy") / "left"
    write_mock(path, table, max_rows=300, stellarscale_alias="left", stellarscale_rows_in="9")
    return path


@pytest.fixture(scope="module")
def other(tmp_path_factory, table):
    path = tmp_path_factory.mktemp("lazy") / "right"
    write_mock(path, moved(table, 1.0), max_rows=200, stellarscale_alias="right")
    return path


@pytest.fixture
def catalog(root):
    return stellarscale.open_catalog(root)


def ids(table: pa.Table) -> list[int]:
    return sorted(table["source_id"].to_pylist())


def only_bright(table: pa.Table) -> pa.Table:
    return table.filter(pc.less(table["gmag"], 16.0))


def add_colour(table: pa.Table) -> pa.Table:
    return table.append_column("twice", pc.multiply(table["gmag"], 2.0))


def test_a_catalogue_is_shown_in_one_short_line(catalog, table):
    partitions, columns = len(catalog.partitions), table.num_columns
    assert repr(catalog) == f"<Catalog mock: {ROWS:,} rows in {partitions} partitions, {columns} columns>"
    view = catalog.cone(0.3, 12.0, 0.5).columns(["ra"])
    size = f"<Catalog mock: {ROWS:,} rows in {partitions} partitions, 2 columns"
    assert repr(view) == f"{size}; a view with 1 subset(s), 1 step(s)>"


def test_everything_comes_back_in_order(catalog, table):
    whole = catalog.compute()
    assert whole["source_id"].to_pylist() == table["source_id"].to_pylist()
    assert whole.schema.names == table.schema.names
    assert len(catalog.partitions) > 3


def test_a_directory_that_is_none_is_told(tmp_path):
    with pytest.raises(CatalogError, match="no HATS catalogue"):
        stellarscale.open_catalog(tmp_path)


def test_views_do_not_change_their_parent(catalog):
    catalog.cone(0.3, 12, 0.1).columns(["ra"])
    assert (catalog.subsets, catalog.steps) == ((), ())


def test_cone_is_exact_and_touches_fewer_partitions(catalog, table):
    view = catalog.cone(0.3, 12.0, 0.5)
    ra, dec = np.radians(table["ra"].to_numpy()), np.radians(table["dec"].to_numpy())
    centre = np.radians([0.3, 12.0])
    cosine = np.sin(dec) * np.sin(centre[1]) + np.cos(dec) * np.cos(centre[1]) * np.cos(ra - centre[0])
    expected = table.filter(pa.array(cosine >= np.cos(np.radians(0.5))))
    assert 0 < expected.num_rows < ROWS
    assert ids(view.compute()) == ids(expected)
    assert len(view.partitions) < len(catalog.partitions)


@pytest.mark.parametrize("bounds", [(359.0, 0.5), (-1.0, 0.5)])
def test_box_through_right_ascension_zero(catalog, table, bounds):
    found = catalog.box(*bounds, 11.5, 12.5).compute()
    ra, dec = table["ra"].to_numpy(), table["dec"].to_numpy()
    inside = ((ra >= 359.0) | (ra <= 0.5)) & (dec >= 11.5) & (dec <= 12.5)
    assert (ra[inside] > 300).any()
    assert (ra[inside] < 1).any()
    assert ids(found) == ids(table.filter(pa.array(inside)))


def test_polygon_and_box_agree_on_the_inside(catalog):
    polygon = catalog.polygon([(359.5, 11.5), (0.5, 11.5), (0.5, 12.5), (359.5, 12.5)]).compute()
    box = catalog.box(359.5, 0.5, 11.49, 12.51).compute()
    assert polygon.num_rows > 50
    assert set(ids(polygon)) <= set(ids(box))


def test_pixels(catalog, table):
    pixel = catalog.stored.pixels[1]
    found = catalog.pixels([(pixel.order, pixel.ipix)])
    keys = table["_healpix_29"].to_numpy()
    assert found.partitions == (pixel,)
    assert ids(found.compute()) == ids(table.filter(pa.array((keys >= pixel.first) & (keys < pixel.last))))


def test_a_sample_does_not_depend_on_the_partitions(catalog, table, tmp_path):
    write_mock(tmp_path / "coarse", table, max_rows=100_000)
    one = catalog.sample(0.2).compute()
    assert ids(one) == ids(stellarscale.open_catalog(tmp_path / "coarse").sample(0.2).compute())
    assert 0.15 * ROWS < one.num_rows < 0.25 * ROWS
    assert set(ids(one)) <= set(ids(catalog.sample(0.4).compute()))


def test_subsets_add_up(catalog):
    both = catalog.cone(0.3, 12.0, 1.0).sample(0.5).compute()
    assert set(ids(both)) == set(ids(catalog.cone(0.3, 12.0, 1.0).compute())) & set(ids(catalog.sample(0.5).compute()))


def test_a_region_elsewhere_is_empty_with_the_same_schema(catalog):
    view = catalog.cone(180.0, -60.0, 1.0)
    assert view.partitions == ()
    assert view.compute().schema.equals(catalog.schema)
    with pytest.raises(CatalogError, match="no partition"):
        view.to_dask()


def test_a_wrong_region_is_told_when_it_is_named(catalog):
    with pytest.raises(ConfigError, match="-90 and 90"):
        catalog.cone(0, 95, 1)
    with pytest.raises(ConfigError, match="fraction"):
        catalog.sample(0)


def test_columns(catalog, table):
    found = catalog.columns(["gmag", "source_id"]).compute()
    assert found.schema.names == ["_healpix_29", "gmag", "source_id"]
    assert found["gmag"].to_pylist() == table["gmag"].to_pylist()
    with pytest.raises(SchemaError, match="gmagg"):
        catalog.columns(["gmagg"])


def test_map_partitions_declares_its_schema_and_keeps_it(catalog, table):
    view = catalog.map_partitions(add_colour)
    assert view.schema.names[-1] == "twice"
    assert view.compute()["twice"].to_pylist() == pc.multiply(table["gmag"], 2.0).to_pylist()
    filtered = catalog.map_partitions(only_bright).columns(["source_id"])
    assert ids(filtered.compute()) == ids(only_bright(table))


def unsteady(table: pa.Table) -> pa.Table:
    return add_colour(table) if table.num_rows else table


def test_a_step_that_does_not_keep_its_schema_is_told(catalog):
    with pytest.raises(SchemaError, match="other columns than it declared"):
        catalog.map_partitions(unsteady).compute()


# ---- matches


def eager(root, other, out, subset=None, **options) -> pa.Table:
    step = MatchStep(catalog=str(other), **options)
    with session("threads:2") as on:
        match_catalogs(on, root, other, out, step=step, subset=subset)
    stored = open_stored(out)
    return read_columns(stored, [name for name in stored.schema.names if name != "_healpix_29"])


@pytest.mark.parametrize("options", [{}, {"keep": "mutual"}, {"keep": "all"}, {"how": "left"}])
@pytest.mark.parametrize("cone", [None, (0.3, 12.0, 0.7)])
def test_a_lazy_match_is_the_eager_one(catalog, root, other, tmp_path, options, cone):
    options = {"radius_arcsec": 120.0, **options}
    view = catalog.cone(*cone) if cone else catalog
    subset = f"cone:{cone[0]},{cone[1]},{cone[2]}" if cone else None
    lazy = view.crossmatch(other, **options).compute()
    expected = eager(root, other, tmp_path / "m", subset, **options)
    assert lazy.num_rows > 50
    assert lazy.schema.names == expected.schema.names
    assert lazy.to_pylist() == expected.to_pylist()


def test_a_mutual_match_of_a_cone_is_part_of_the_whole(catalog, other):
    whole = catalog.crossmatch(other, radius_arcsec=300, keep="mutual").compute()
    part = catalog.cone(0.3, 12.0, 0.7).crossmatch(other, radius_arcsec=300, keep="mutual").compute()
    pairs = [set(zip(t["source_id"].to_pylist(), t["right_source_id"].to_pylist(), strict=True)) for t in (whole, part)]
    assert pairs[1] <= pairs[0]
    assert len(pairs[1]) < len(pairs[0])


def test_a_match_takes_columns_and_an_open_catalogue(catalog, other):
    view = catalog.columns(["source_id", "ra", "dec"]).crossmatch(stellarscale.open_catalog(other), radius_arcsec=5.0)
    assert view.schema.names[:4] == ["_healpix_29", "source_id", "ra", "dec"]
    assert view.compute().num_rows > ROWS / 2
    assert view.schema.equals(view.cone(180, 0, 1).compute().schema)


def test_a_match_that_cannot_be_is_told_at_once(catalog, other, tmp_path):
    with pytest.raises(CatalogError, match="write it first"):
        catalog.crossmatch(stellarscale.open_catalog(other).sample(0.5), radius_arcsec=1.0)
    with pytest.raises(SchemaError, match="two sources"):
        catalog.crossmatch(other, radius_arcsec=1.0, prefix="")
    with pytest.raises((SchemaError, CatalogError), match="ra"):
        catalog.columns(["source_id"]).crossmatch(other, radius_arcsec=1.0)
    with pytest.raises(CatalogError, match="no such catalogue"):
        catalog.crossmatch(tmp_path / "x", radius_arcsec=1.0)
    with pytest.raises(ConfigError, match="radius_arcsec"):
        catalog.crossmatch(other, radius_arcsec=-1.0)
    with pytest.raises(ConfigError, match="did you mean 'prefix'"):
        catalog.crossmatch(other, radius_arcsec=1.0, prefx="a")


def test_a_chain_of_matches(catalog, other, root):
    once = catalog.crossmatch(other, radius_arcsec=5.0)
    found = once.crossmatch(other, radius_arcsec=5.0, prefix="again_", how="left").compute()
    assert found["again_source_id"].to_pylist() == found["right_source_id"].to_pylist()
    assert found["again_separation_arcsec"].to_pylist() == found["separation_arcsec"].to_pylist()


# ---- Dask


def test_the_dask_dataframe_has_known_divisions_and_the_same_rows(catalog, table):
    frame = catalog.to_dask()
    assert frame.known_divisions
    assert frame.npartitions == len(catalog.partitions)
    assert frame.divisions[0] == catalog.partitions[0].first
    assert frame.divisions[-1] == catalog.partitions[-1].last
    computed = frame.compute(scheduler="threads")
    assert computed.index.tolist() == table["_healpix_29"].to_pylist()
    assert computed.source_id.tolist() == table["source_id"].to_pylist()
    assert str(computed.source_id.dtype) == "int64[pyarrow]"
    assert computed.gmag.isna().sum() == table["gmag"].null_count


def test_the_dask_dataframe_can_be_worked_with(catalog, table):
    frame = catalog.columns(["gmag", "source_id"]).to_dask()
    bright = frame[frame.gmag < 16.0].compute(scheduler="threads")
    assert sorted(bright.source_id.tolist()) == ids(only_bright(table))
    mean = float(frame.gmag.mean().compute(scheduler="threads"))
    assert mean == pytest.approx(pc.mean(table["gmag"]).as_py(), rel=1e-6)
    first = int(table["_healpix_29"][10].as_py())
    assert frame.loc[first:first].compute(scheduler="threads").source_id.tolist() == [table["source_id"][10].as_py()]


# ---- writing


def test_a_view_is_written_as_a_sound_catalogue(catalog, tmp_path):
    view = catalog.cone(0.3, 12.0, 1.0).map_partitions(add_colour)
    written = view.write(tmp_path / "new")
    assert written.compute().to_pylist() == view.compute().to_pylist()
    assert not verify(tmp_path / "new").problems
    assert written.stored.properties.name == "new"
    assert written.stored.num_rows == view.compute().num_rows
    assert "stellarscale_rows_in" not in written.stored.properties.extra
    assert written.stored.properties.extra["stellarscale_alias"] == "left"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_a_written_match_is_sound_even_with_every_pair(catalog, other, tmp_path):
    view = catalog.crossmatch(other, radius_arcsec=300.0, keep="all")
    written = view.write(tmp_path / "pairs")
    assert len(set(ids(written.compute()))) < written.stored.num_rows
    assert not verify(tmp_path / "pairs").problems


def test_a_written_view_keeps_only_roles_it_has(catalog, tmp_path):
    written = catalog.columns(["ra", "dec"]).write(tmp_path / "bare")
    assert "stellarscale_id" not in written.stored.properties.extra
    assert not verify(tmp_path / "bare").problems


def test_an_empty_view_is_written_too(catalog, tmp_path):
    written = catalog.cone(180, -60, 1).write(tmp_path / "none")
    assert written.compute().num_rows == 0
    assert written.schema.equals(catalog.schema)
    assert not verify(tmp_path / "none").problems


def failing(table: pa.Table) -> pa.Table:
    if table.num_rows:
        raise RuntimeError("half-way")
    return table


def test_a_write_that_fails_leaves_nothing(catalog, tmp_path):
    with pytest.raises(RuntimeError, match="half-way"):
        catalog.map_partitions(failing).write(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    catalog.write(tmp_path / "new")
    with pytest.raises(CatalogError, match="already holds something"):
        catalog.write(tmp_path / "new")
    with pytest.raises(SchemaError, match="position"):
        catalog.columns(["gmag"]).write(tmp_path / "lost")


@pytest.mark.oracle
def test_what_is_written_is_a_valid_hats_catalogue(catalog, other, tmp_path):
    validation = pytest.importorskip("hats.io.validation")
    catalog.box(359.0, 1.0, 11.0, 13.0).write(tmp_path / "box")
    catalog.crossmatch(other, radius_arcsec=3.0).write(tmp_path / "match")
    for name in ("box", "match"):
        assert validation.is_valid_catalog(tmp_path / name, strict=True)


def test_a_catalogue_written_by_hand_opens(tmp_path, table):
    from stellarscale.catalog.pixels import Pixel

    pixel = Pixel(0, int(table["_healpix_29"][0].as_py()) >> 58)
    rows = table.filter(pa.array((table["_healpix_29"].to_numpy() >> 58) == pixel.ipix))
    write_pixel(tmp_path / "c", pixel, rows, WriteOptions(row_group_rows=100))
    finish_catalog(tmp_path / "c", CatalogProperties("c"), table.schema, [pixel])
    assert stellarscale.open_catalog(tmp_path / "c").compute().num_rows == rows.num_rows
