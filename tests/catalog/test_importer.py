"""Survey files into a catalogue: rows are conserved, values arrive, bytes do not depend on scheduling."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reference.import_inputs import COLUMNS, SCHEMA, files_under, random_table, rows_of, survey, table_of, write_files

from stellarscale.catalog import layout
from stellarscale.catalog.import_plan import ImportConfig, plan_import
from stellarscale.catalog.import_reduce import adaptive_partitions
from stellarscale.catalog.importer import REJECTS_FILE, import_files
from stellarscale.catalog.pixels import Pixel, adaptive_pixels
from stellarscale.catalog.reader import StoredCatalog, open_stored
from stellarscale.flags import Flag


def partition_files(catalog: StoredCatalog) -> Iterator[tuple[Pixel, pa.Table]]:
    """Partitions as they are on disk, past the reader's own sorting."""
    for pixel in catalog.pixels:
        yield pixel, pq.ParquetFile(layout.pixel_path(catalog.root, pixel)).read()


def thread_mapper(function: Any, items: Sequence[Any]) -> list[Any]:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(function, items))


def backwards(function: Any, items: Sequence[Any]) -> list[Any]:
    """Runs the last item first, gives the results in order."""
    return [function(item) for item in reversed(items)][::-1]


POSITIONS = st.tuples(
    st.one_of(st.sampled_from([0.0, 45.0, 359.999, np.nan]), st.floats(0, 359.99)),
    st.one_of(st.sampled_from([-90.0, 0.0, 90.0, np.nan]), st.floats(-90, 90)),
)
ROWS = st.tuples(st.one_of(st.none(), st.integers(0, 12), st.integers(-(2**63), 2**63 - 1)), POSITIONS)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.lists(st.lists(ROWS, max_size=25), min_size=1, max_size=4),
    batch_rows=st.integers(1, 12),
    max_rows=st.integers(1, 10),
    min_order=st.integers(0, 2),
    finest_order=st.integers(2, 5),
    hashes_at_once=st.integers(1, 20),
)
def test_every_row_arrives_once_where_it_belongs(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[Any]], **numbers: int
) -> None:
    base = tmp_path_factory.mktemp("import")
    tables = [table_of([i for i, _ in rows], [p[0] for _, p in rows], [p[1] for _, p in rows]) for rows in files]
    config = ImportConfig(**numbers)
    summary = import_files(write_files(base / "in", tables), SCHEMA, base / "out", config)
    rows = [row for part in files for row in part]
    good = [(i, p) for i, p in rows if np.isfinite(p).all()]
    assert (summary.rows_in, summary.rows_out) == (len(rows), len(good))
    assert summary.rejected == len(rows) - len(good)
    catalog = open_stored(base / "out")
    stored = rows_of(catalog)
    assert Counter((row["source_id"], row["ra"], row["dec"]) for row in stored) == Counter((i, *p) for i, p in good)
    times = Counter(i for i, _ in good if i is not None)
    for row in stored:
        assert bool(row["quality_flags"] & Flag.DUPLICATE_ID) == (times[row["source_id"]] > 1)
    assert summary.duplicates == sum(count for count in times.values() if count > 1)
    assert summary.null_ids == sum(i is None for i, _ in good)
    for pixel, table in partition_files(catalog):
        keys = table["_healpix_29"].to_numpy()
        assert (np.diff(keys) >= 0).all()
        assert pixel.first <= keys[0] <= keys[-1] < pixel.last
        assert min_order_holds(pixel, config)
        assert len(keys) <= config.max_rows or pixel.order == config.finest_order
    shutil.rmtree(base)


def min_order_holds(pixel: Pixel, config: ImportConfig) -> bool:
    return config.min_order <= pixel.order <= config.finest_order


@given(
    filled=st.dictionaries(st.integers(0, 12 * 4**4 - 1), st.integers(1, 40), max_size=60),
    max_rows=st.integers(1, 200),
    min_order=st.integers(0, 4),
)
def test_sparse_cut_is_the_dense_one(filled: dict[int, int], max_rows: int, min_order: int) -> None:
    pixels = np.array(sorted(filled), dtype=np.int64)
    counts = np.array([filled[pixel] for pixel in sorted(filled)], dtype=np.int64)
    dense = np.zeros(12 * 4**4, dtype=np.int64)
    dense[pixels] = counts
    expected = adaptive_pixels(dense, max_rows=max_rows, min_order=min_order)
    assert adaptive_partitions(pixels, counts, 4, max_rows=max_rows, min_order=min_order) == expected


def test_bytes_do_not_depend_on_scheduling_or_batches(tmp_path: Path) -> None:
    tables = [random_table(400, seed, first=300 * seed) for seed in range(3)]
    same_place = table_of(range(50), [10.0] * 50, [20.0] * 50)
    paths = write_files(tmp_path / "in", [*tables, same_place, same_place])
    plain = ImportConfig(max_rows=150, batch_rows=97)
    import_files(paths, SCHEMA, tmp_path / "plain", plain)
    expected = files_under(tmp_path / "plain")
    assert sum(name.endswith(".parquet") for name in expected) > 8
    variants = {
        "threads": (ImportConfig(max_rows=150, batch_rows=97, threads=16), thread_mapper),
        "backwards": (plain, backwards),
        "batches": (ImportConfig(max_rows=150, batch_rows=11), map),
        "hashes": (ImportConfig(max_rows=150, batch_rows=1000, hashes_at_once=100), map),
    }
    for name, (config, mapper) in variants.items():
        import_files(paths, SCHEMA, tmp_path / name, config, mapper=mapper)
        assert files_under(tmp_path / name) == expected, name


def test_ties_keep_the_order_of_files_and_rows(tmp_path: Path) -> None:
    first = table_of([9, 7, 8], [10.0] * 3, [20.0] * 3)
    second = table_of([3, 1, 2], [10.0] * 3, [20.0] * 3)
    paths = write_files(tmp_path / "in", [first, second])
    import_files(paths, SCHEMA, tmp_path / "out", ImportConfig(batch_rows=2))
    assert [row["source_id"] for row in rows_of(open_stored(tmp_path / "out"))] == [9, 7, 8, 3, 1, 2]
    import_files(paths[::-1], SCHEMA, tmp_path / "other", ImportConfig(batch_rows=2))
    assert [row["source_id"] for row in rows_of(open_stored(tmp_path / "other"))] == [3, 1, 2, 9, 7, 8]


def test_values_units_and_properties_reach_the_catalogue(tmp_path: Path) -> None:
    moving = survey(
        columns={
            **COLUMNS,
            "pmra": {"native": ["pmra"], "unit": "mas/yr"},
            "pmdec": {"native": ["pmdec"], "unit": "mas/yr"},
        },
        motion={"pmra": "pmra", "pmdec": "pmdec"},
        epoch={"year": 2016.0},
    )
    table = (
        random_table(30, 1).append_column("pmra", pa.array(np.ones(30))).append_column("pmdec", pa.array(np.ones(30)))
    )
    paths = write_files(tmp_path / "in", [table])
    import_files(paths, moving, tmp_path / "out")
    catalog = open_stored(tmp_path / "out")
    extra = catalog.properties.extra
    expected = {
        "alias": "mk",
        "survey": "mock",
        "id": "source_id",
        "epoch_yr": "2016.0",
        "pmra": "pmra",
        "pmdec": "pmdec",
        "rows_in": "30",
        "rejected": "0",
        "duplicates": "0",
    }
    assert {name: extra[f"stellarscale_{name}"] for name in expected} == expected
    assert "stellarscale_placeholder_positions" not in extra
    assert (catalog.properties.rows, catalog.properties.ra) == (30, "ra")
    assert catalog.schema.names == [
        "_healpix_29",
        "source_id",
        "ra",
        "dec",
        "mag",
        "pmra",
        "pmdec",
        "quality_flags",
    ]
    assert catalog.schema.field("mag").metadata == {b"unit": b"mag", b"ucd": b"phot.mag"}
    mags = dict(zip(table["source_id"].to_pylist(), table["mag"].to_pylist(), strict=True))
    assert {row["source_id"]: row["mag"] for row in rows_of(catalog)} == mags


def test_chosen_columns_are_the_catalogues_only_ones(tmp_path: Path) -> None:
    paths = write_files(tmp_path / "in", [random_table(50, 1).append_column("snr", pa.array(np.arange(50.0)))])
    schema = survey(columns=COLUMNS | {"snr": {"native": ["snr"]}})
    whole = import_files(paths, schema, tmp_path / "whole", ImportConfig(max_rows=20))
    few = import_files(paths, schema, tmp_path / "few", ImportConfig(max_rows=20, columns=("snr",)))
    assert few.rows_out == whole.rows_out
    chosen, everything = open_stored(tmp_path / "few"), open_stored(tmp_path / "whole")
    assert chosen.schema.names == ["_healpix_29", "source_id", "ra", "dec", "snr", "quality_flags"]
    without = [{name: value for name, value in row.items() if name != "mag"} for row in rows_of(everything)]
    assert rows_of(chosen) == without


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_rows_without_ids_or_positions_get_them_across_files(tmp_path: Path, kind: str) -> None:
    nameless = survey(
        id="row",
        position={"placeholder": True},
        columns={"row": {"dtype": "int64", "derive": {"function": "row_number"}}, "mag": COLUMNS["mag"]},
    )
    paths = [tmp_path / f"{number}.{kind}" for number in range(2)]
    for path in paths:
        table = random_table(20, 3).select(["mag"])
        _ = pq.write_table(table, path) if kind == "parquet" else pcsv.write_csv(table, path)
    summary = import_files(paths, nameless, tmp_path / "out", ImportConfig(batch_rows=6))
    assert (summary.rows_out, summary.duplicates) == (40, 0)
    catalog = open_stored(tmp_path / "out")
    assert catalog.properties.extra["stellarscale_placeholder_positions"] == "true"
    numbers = sorted(row["row"] for row in rows_of(catalog))
    second = 20 if kind == "parquet" else 1 << 32
    assert numbers == [*range(20), *range(second, second + 20)]


def test_positions_that_a_file_may_lack_and_has_are_no_placeholders(tmp_path: Path) -> None:
    optional = survey(position={"placeholder": True})
    import_files(write_files(tmp_path / "in", [random_table(20, 3)]), optional, tmp_path / "out")
    assert "stellarscale_placeholder_positions" not in open_stored(tmp_path / "out").properties.extra


def test_text_ids_are_compared_across_files(tmp_path: Path) -> None:
    named = survey(columns={**COLUMNS, "source_id": {"native": ["source_id"], "dtype": "string"}})
    base = random_table(4, 1)
    names = [["a", "b", None, "J1200+3000"], ["J1200+3000", "c", None, "aa"]]
    tables = [base.set_column(0, "source_id", pa.array(part)) for part in names]
    summary = import_files(write_files(tmp_path / "in", tables), named, tmp_path / "out")
    assert (summary.duplicates, summary.null_ids) == (2, 2)
    flagged = [row["source_id"] for row in rows_of(open_stored(tmp_path / "out")) if row["quality_flags"]]
    assert flagged == ["J1200+3000"] * 2


def test_a_file_without_rows_among_others_is_no_trouble(tmp_path: Path) -> None:
    tables = [random_table(10, 1), random_table(0, 1), random_table(10, 2, first=10)]
    summary = import_files(write_files(tmp_path / "in", tables), SCHEMA, tmp_path / "out")
    assert (summary.files, summary.rows_out, summary.rejected) == (3, 20, 0)
    assert not (tmp_path / "out" / REJECTS_FILE).exists()


@pytest.mark.parametrize("rows", [0, 12])
def test_no_good_row_makes_an_empty_catalogue(tmp_path: Path, rows: int) -> None:
    bad = table_of(range(rows), [np.nan] * rows, [5.0] * rows)
    summary = import_files(write_files(tmp_path / "in", [bad]), SCHEMA, tmp_path / "out", ImportConfig(batch_rows=5))
    assert (summary.rows_in, summary.rows_out, summary.rejected, summary.partitions) == (rows, 0, rows, 0)
    catalog = open_stored(tmp_path / "out")
    assert (catalog.pixels, catalog.properties.rows) == ((), 0)
    assert "mag" in catalog.schema.names


def test_rejects_of_all_files_are_kept(tmp_path: Path) -> None:
    tables = [
        table_of([1, 2, 3], [np.nan, 5, 5], [5, 5, np.inf]),
        random_table(3, 1),
        table_of([7], [1], [91]),
    ]
    paths = write_files(tmp_path / "in", tables)
    summary = import_files(paths, SCHEMA, tmp_path / "out", ImportConfig(batch_rows=2))
    rejects = pq.read_table(tmp_path / "out" / REJECTS_FILE)
    assert rejects.num_rows == summary.rejected == 3
    assert [(Path(row["file"]).name, row["row"], row["id"]) for row in rejects.to_pylist()] == [
        ("part0.parquet", 0, "1"),
        ("part0.parquet", 2, "3"),
        ("part2.parquet", 0, "7"),
    ]


def test_nothing_but_the_catalogue_is_left(tmp_path: Path) -> None:
    import_files(write_files(tmp_path / "in", [random_table(50, 1)]), SCHEMA, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"dataset", "hats.properties", "properties", "partition_info.csv", "skymap.fits"}


def test_threads_go_into_files_only_when_files_are_few(tmp_path: Path) -> None:
    paths = write_files(tmp_path, [random_table(5, seed) for seed in range(3)])
    config = ImportConfig(threads=4)
    assert [plan_import(paths[:n], SCHEMA, config).threads_per_file for n in (1, 2, 3)] == [4, 2, 1]


@pytest.mark.oracle
def test_hats_accepts_the_catalogue(tmp_path: Path) -> None:
    validation = pytest.importorskip("hats.io.validation")
    tables = [random_table(300, 1), table_of([1], [np.nan], [0])]
    import_files(write_files(tmp_path / "in", tables), SCHEMA, tmp_path / "out", ImportConfig(max_rows=100))
    assert validation.is_valid_catalog(tmp_path / "out", strict=True, verbose=False)
