"""Ids that occur more than once: hashing, the search by ranges of the hash space, the flag."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stellarscale.catalog.duplicates import (
    HashRuns,
    duplicates_in_range,
    flag_duplicates,
    hash_ids,
    hash_ranges,
    map_hashes,
    write_hashes,
)
from stellarscale.flags import COLUMN, Flag

INT64 = st.integers(-(2**63), 2**63 - 1)


def splitmix64(value: int) -> int:
    """The published finaliser, in plain integers."""
    z = (value + 0x9E3779B97F4A7C15) % 2**64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) % 2**64
    return z ^ (z >> 31)


@given(st.lists(INT64, max_size=30))
def test_integer_hash_is_splitmix64(values: list[int]) -> None:
    hashes, valid = hash_ids(pa.array(values, type=pa.int64()))
    assert hashes.tolist() == [splitmix64(value % 2**64) for value in values]
    assert valid.all()


def test_splitmix64_is_the_published_one() -> None:
    # First output of the reference generator seeded with 0.
    assert splitmix64(0) == 0xE220A8397B1DCDAF


@given(st.lists(st.text(max_size=40), max_size=30))
def test_equal_texts_and_only_they_share_a_hash(texts: list[str]) -> None:
    hashes, _ = hash_ids(pa.array(texts, type=pa.string()))
    assert len(set(hashes.tolist())) == len(set(texts))
    assert len({(text, value) for text, value in zip(texts, hashes.tolist(), strict=True)}) == len(set(texts))


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 15, 16, 17])
def test_every_byte_of_a_text_counts(length: int) -> None:
    base = "x" * length
    variants = [base, base + "x", base + "\0"]
    variants += [base[:place] + "y" + base[place + 1 :] for place in range(length)]
    hashes, _ = hash_ids(pa.array(variants))
    assert len(set(hashes.tolist())) == len(variants)


@given(st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=1, max_size=20), st.data())
def test_text_hash_does_not_depend_on_slices_chunks_or_neighbours(texts: list[str | None], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    whole = pa.array(texts, type=pa.string())
    hashes, valid = hash_ids(whole)
    tail, tail_valid = hash_ids(whole.slice(cut))
    chunked, _ = hash_ids(pa.chunked_array([whole.slice(0, cut), whole.slice(cut)]))
    np.testing.assert_array_equal(tail_valid, valid[cut:])
    np.testing.assert_array_equal(tail[tail_valid], hashes[cut:][valid[cut:]])
    np.testing.assert_array_equal(chunked[valid], hashes[valid])


def test_nulls_are_marked_in_integers_and_text() -> None:
    for column in (pa.array([5, None, 5]), pa.array(["5", None, "5"])):
        hashes, valid = hash_ids(column)
        assert valid.tolist() == [True, False, True]
        assert hashes[0] == hashes[2]


@pytest.mark.parametrize("kind", [pa.int64(), pa.int16(), pa.string(), pa.float64()])
def test_no_ids(kind: pa.DataType) -> None:
    hashes, valid = hash_ids(pa.array([], type=kind))
    assert len(hashes) == len(valid) == 0


def test_small_integers_hash_like_large_ones() -> None:
    narrow, _ = hash_ids(pa.array([-3, 7], type=pa.int16()))
    wide, _ = hash_ids(pa.array([-3, 7], type=pa.int64()))
    np.testing.assert_array_equal(narrow, wide)


@given(st.integers(0, 10_000), st.integers(1, 5_000))
def test_ranges_cover_the_hash_space_once(total: int, at_once: int) -> None:
    ranges = hash_ranges(total, at_once)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == 2**64 - 1
    assert all(low == high + 1 for (_, high), (low, _) in itertools.pairwise(ranges))
    assert len(ranges) == max(1, -(-total // at_once))


def _runs(directory: Path, files: list[list[list[int]]]) -> list[HashRuns]:
    runs = []
    for number, batches in enumerate(files):
        path = directory / f"{number}.u64"
        write_hashes(path, [np.sort(np.array(batch, dtype=np.uint64)) for batch in batches])
        runs.append(HashRuns(path, tuple(len(batch) for batch in batches)))
    return runs


EDGES = st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1])
HASHES = st.lists(st.one_of(EDGES, st.integers(0, 2**64 - 1), st.integers(0, 20)), max_size=15)


@given(files=st.lists(st.lists(HASHES, max_size=3), max_size=4), parts=st.integers(1, 5))
def test_duplicates_are_those_of_a_counter(
    tmp_path_factory: pytest.TempPathFactory, files: list[list[list[int]]], parts: int
) -> None:
    runs = _runs(tmp_path_factory.mktemp("runs"), files)
    counter = Counter(value for batches in files for batch in batches for value in batch)
    expected = {value: count for value, count in counter.items() if count > 1}
    found = [duplicates_in_range(bounds, runs) for bounds in hash_ranges(parts, 1)]
    assert [value for part in found for value in part.hashes.tolist()] == sorted(expected)
    assert sum(part.rows for part in found) == sum(expected.values())


def test_an_id_repeated_many_times_is_one_duplicate(tmp_path: Path) -> None:
    runs = _runs(tmp_path, [[[9] * 5000, [9] * 5000], [[3, 9]]])
    found = duplicates_in_range((0, 2**64 - 1), runs)
    assert found.hashes.tolist() == [9]
    assert found.rows == 10_001


def test_hashes_survive_the_disk(tmp_path: Path) -> None:
    write_hashes(tmp_path / "some", [np.array([1, 2**64 - 1], dtype=np.uint64), np.array([7], dtype=np.uint64)])
    write_hashes(tmp_path / "none", [])
    assert map_hashes(tmp_path / "some").tolist() == [1, 2**64 - 1, 7]
    assert map_hashes(tmp_path / "none").tolist() == []


def _table(ids: list[int | None], flags: list[int]) -> pa.Table:
    field = pa.field(COLUMN, pa.int32(), metadata={b"ucd": b"meta.code.qual"})
    schema = pa.schema([pa.field("id", pa.int64()), field])
    return pa.table({"id": ids, COLUMN: flags}, schema=schema)


def test_flag_is_added_to_the_flags_that_are_there() -> None:
    table = _table([4, 8, None, 4], [1, 1, 0, 0])
    repeated = np.sort(hash_ids(pa.array([4, 0]))[0])
    flagged = flag_duplicates(table, "id", repeated)
    bit = int(Flag.DUPLICATE_ID)
    assert flagged[COLUMN].to_pylist() == [1 | bit, 1, 0, bit]  # the null id is no duplicate of 0
    assert flagged.schema.equals(table.schema, check_metadata=True)


def test_tables_without_a_duplicate_come_back_as_they_are() -> None:
    table = _table([4, 8], [0, 0])
    assert flag_duplicates(table, "id", np.empty(0, dtype=np.uint64)) is table
    assert flag_duplicates(table, "id", hash_ids(pa.array([99]))[0]) is table
    empty = table.slice(0, 0)
    assert flag_duplicates(empty, "id", hash_ids(pa.array([4]))[0]) is empty
