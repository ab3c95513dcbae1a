"""The selection of stars on tables in memory."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.errors import ConfigError, SchemaError
from stellarscale.partition.select import draw_rows, select_rows, selected_schema, strata_codes
from stellarscale.settings.cuts import Cut, Selection, Strata

CUTS = (
    Cut(name="latitude", columns=("glat",), absolute=True, min=10),
    Cut(name="star", columns=("class_star",), min=0.6),
    Cut(name="flags", columns=("flags",), equals=0),
)
RELAXED = ("latitude", "flags")
PIXEL = (3, 17)


def rows() -> pa.Table:
    """One row for each way to pass or fail three cuts: bit 0 latitude, bit 1 star, bit 2 flags."""
    bits = np.arange(8)
    return pa.table(
        {
            "bits": bits,
            "glat": np.where(bits & 1, 5.0, -20.0),
            "class_star": np.where(bits & 2, 0.1, 0.9),
            "flags": np.where(bits & 4, 3, 0),
        }
    )


def select(table, selection, *, seed=0, pixel=PIXEL):
    kept, lost = select_rows(table, selection, seed=seed, pixel=pixel)
    assert kept.num_rows + sum(lost.values()) == table.num_rows
    assert kept.schema.equals(selected_schema(table.schema, selection), check_metadata=True)
    return kept, lost


def test_high_quality_rows_pass_every_cut_and_the_first_failure_counts():
    kept, lost = select(rows(), Selection(cuts=CUTS, relaxed=RELAXED))
    assert kept["bits"].to_pylist() == [0]
    assert kept["sample_quality"].to_pylist() == ["high"]
    assert lost == {"latitude": 4, "star": 2, "flags": 1}


def test_low_quality_rows_fail_relaxed_cuts_only():
    kept, lost = select(rows(), Selection(cuts=CUTS, relaxed=RELAXED, quality="low"))
    assert kept["bits"].to_pylist() == [1, 4, 5]
    assert set(kept["sample_quality"].to_pylist()) == {"low"}
    assert lost == {"star": 4, "high_quality": 1}


def test_both_qualities():
    kept, lost = select(rows(), Selection(cuts=CUTS, relaxed=RELAXED, quality="all"))
    assert dict(zip(kept["bits"].to_pylist(), kept["sample_quality"].to_pylist(), strict=True)) == {
        0: "high",
        1: "low",
        4: "low",
        5: "low",
    }
    assert lost == {"star": 4}


def test_without_cuts_all_is_kept_even_of_no_rows():
    assert select(rows(), Selection())[0].num_rows == 8
    kept, lost = select(rows().slice(0, 0), Selection(cuts=CUTS, strata=Strata(keep_one_in=3, by={"glat": (0.0,)})))
    assert (kept.num_rows, lost) == (0, {})


def test_a_column_that_would_be_hidden_or_is_missing_is_refused():
    with pytest.raises(SchemaError, match="sample_quality"):
        select_rows(rows().append_column("sample_quality", pa.array(["x"] * 8)), Selection(), seed=0, pixel=PIXEL)
    with pytest.raises(SchemaError, match="did you mean 'glat'"):
        selected_schema(rows().schema, Selection(strata=Strata(by={"glatt": (1.0,)})))
    with pytest.raises(SchemaError, match="i_mag"):
        selected_schema(rows().schema, Selection(strata=Strata(by={"glat-i_mag": (1.0,)})))
    with pytest.raises(SchemaError, match="nothing_like_it"):
        selected_schema(rows().schema, Selection(cuts=(Cut(name="c", columns=("nothing_like_it",), min=0),)))


@pytest.mark.parametrize("edges", [(2.0, 1.0), (1.0, 1.0), ()])
def test_edges_must_ascend(edges):
    with pytest.raises(ConfigError, match="ascend"):
        selected_schema(rows().schema, Selection(strata=Strata(by={"glat": edges})))


def test_classes_of_columns_and_colours_with_missing_values_apart():
    table = pa.table({"g": [9.0, 10.0, 11.0, None, 12.0], "i": [9.0, 9.0, 9.0, 9.0, None]})
    codes = strata_codes(table, Strata(by={"g": (10.0, 11.5), "g-i": (0.5,)}))
    classes = [(0, 0), (1, 1), (1, 1), (3, 2), (2, 2)]  # 3 of g, and 2 of g-i: missing
    assert codes.tolist() == [first * 3 + second for first, second in classes]


def test_a_column_with_a_minus_in_its_name_is_that_column():
    table = pa.table({"a-b": [1.0, 3.0], "a": [0.0, 0.0], "b": [0.0, 0.0]})
    assert strata_codes(table, Strata(by={"a-b": (2.0,)})).tolist() == [0, 1]


def test_each_stratum_keeps_its_share_to_one_row():
    codes = np.repeat([0, 5, 7], [90, 100, 4])
    for ipix in range(20):
        kept = draw_rows(codes, 9, seed=1, pixel=(4, ipix))
        counts = np.bincount(codes[kept], minlength=8)
        assert counts[0] == 10
        assert counts[5] in (11, 12)
        assert counts[7] in (0, 1)


def test_the_sample_is_unbiased_over_many_partitions():
    """Small strata, of which most partitions keep none, and large ones are drawn with one chance, 1 / N."""
    rng = np.random.default_rng(3)
    shares, n_partitions, n_rows, keep = np.array([0.9, 0.07, 0.025, 0.005]), 400, 500, 9
    seen, kept = np.zeros(4), np.zeros(4)
    for ipix in range(n_partitions):
        codes = rng.choice(4, n_rows, p=shares)
        drawn = draw_rows(codes, keep, seed=8, pixel=(5, ipix))
        seen += np.bincount(codes, minlength=4)
        kept += np.bincount(codes[drawn], minlength=4)
    sigma = np.sqrt(seen * (1 / keep) * (1 - 1 / keep))  # of a plain random sample; this one scatters less
    assert np.all(np.abs(kept - seen / keep) < 3 * sigma)
    assert abs(kept[0] - seen[0] / keep) < np.sqrt(n_partitions)  # at most one row a partition is left to chance


def test_every_row_of_a_stratum_has_the_same_chance():
    codes = np.zeros(20, dtype=np.int64)
    times = sum(draw_rows(codes, 3, seed=0, pixel=(6, ipix)).astype(int) for ipix in range(3000))
    np.testing.assert_allclose(times / 3000, 1 / 3, atol=5 * np.sqrt(2 / 9 / 3000))


def test_the_draw_depends_on_seed_and_partition_only():
    codes = np.arange(300) % 4
    first = draw_rows(codes, 5, seed=1, pixel=(3, 2))
    np.testing.assert_array_equal(first, draw_rows(codes, 5, seed=1, pixel=(3, 2)))
    for seed, pixel in ((2, (3, 2)), (1, (3, 3)), (1, (4, 2))):
        assert (draw_rows(codes, 5, seed=seed, pixel=pixel) != first).any()


def test_strata_are_drawn_among_the_rows_that_pass_and_the_rest_is_counted():
    rng = np.random.default_rng(1)
    n = 2000
    table = pa.table({"glat": rng.uniform(-90, 90, n), "class_star": rng.random(n), "flags": np.zeros(n, int)})
    whole = select(table, Selection(cuts=CUTS))[0].num_rows
    selection = Selection(cuts=CUTS, strata=Strata(keep_one_in=9, by={"glat": (-30.0, 0.0, 30.0)}))
    kept, lost = select(table, selection)
    assert abs(kept.num_rows - whole / 9) < 4
    assert lost["strata"] == whole - kept.num_rows
    assert select(table, selection, seed=1)[0]["glat"] != kept["glat"]
    assert select(table, selection.model_copy(update={"strata": Strata(keep_one_in=1)}))[0].num_rows == whole
