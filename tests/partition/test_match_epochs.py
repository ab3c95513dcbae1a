"""The match of two partitions with motions and epochs, and with some of them missing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from reference.match_tables import BY_ROW, CONFIGS, MOVING, TO_YEAR, right_of, stars, with_

from stellarscale.errors import InputError
from stellarscale.kernels.sphere import propagate
from stellarscale.partition.match import SkyColumns, match_partition


def one_star(seen_yr, **columns):
    """A star that moves by 1 arcsec a year in right ascension, as seen at an epoch."""
    ra, dec = propagate(120.0, 60.0, 1000.0, 0.0, seen_yr - 2016.0)
    return pa.table({"ra": [float(ra)], "dec": [float(dec)], **{k: pa.array([v]) for k, v in columns.items()}})


@pytest.mark.parametrize(
    "left_epoch, right_epoch, config",
    [
        (2016.0, 2000.0, TO_YEAR),
        (2016.0, 1983.5, BY_ROW),
        (1983.5, 2016.0, CONFIGS["rows, right moves"]),
        (2016.0, 2016.0, CONFIGS["year, both move"]),
    ],
)
def test_a_moving_star_is_found_and_lost_without_its_motion(left_epoch, right_epoch, config):
    left = one_star(left_epoch, pmra=1000.0, pmdec=0.0, epoch=left_epoch)
    right = one_star(right_epoch, pmra=1000.0, pmdec=0.0, epoch=right_epoch)
    out = match_partition(left, right, None, with_(config, radius_arcsec=0.001))
    assert out.num_rows == 1
    assert out["no_motion"].to_pylist() == [False]
    if left_epoch != right_epoch:
        none = pa.array([None], pa.float64())
        still = [table.set_column(2, "pmra", none) for table in (left, right)]
        assert match_partition(*still, None, with_(config, radius_arcsec=0.001)).num_rows == 0


@pytest.mark.parametrize("missing", ["pmra", "pmdec"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_a_missing_motion_counts_as_zero_and_is_flagged(missing, config):
    columns = {"pmra": 5.0, "pmdec": 5.0, "epoch": 2016.0, missing: None}
    if config.epoch == 2000.0:
        columns["epoch"] = 2000.0
    left = pa.table({"ra": [5.0], "dec": [5.0], **{k: pa.array([v], pa.float64()) for k, v in columns.items()}})
    out = match_partition(left, left, None, with_(config, radius_arcsec=1e-6))
    assert out["separation_arcsec"].to_pylist() == [pytest.approx(0.0, abs=1e-9)]
    assert (out["no_motion"].to_pylist() if config.epoch else [True]) == [True]
    assert ("no_motion" in out.schema.names) == (config.epoch is not None)


def test_no_motion_of_an_unmatched_row_speaks_of_the_left_side_only():
    nothing = pa.array([None], pa.float64())
    left = one_star(2016.0, pmdec=0.0, epoch=2016.0).append_column("pmra", nothing)
    right = one_star(2016.0, pmdec=0.0, epoch=2016.0).append_column("pmra", nothing)
    far = right.set_column(0, "ra", pa.array([300.0]))
    for name, expected in (
        ("year", True),
        ("rows", True),
        ("rows, right moves", None),
        ("year, both move", True),
    ):
        out = match_partition(left, far, None, with_(CONFIGS[name], how="left"))
        assert out["no_motion"].to_pylist() == [expected]


def test_the_epoch_in_years_stands_in_for_rows_without_one():
    left = one_star(2016.0, pmra=1000.0, pmdec=0.0)
    right = one_star(1990.0).append_column("epoch", pa.array([None], pa.float64()))
    config = with_(BY_ROW, radius_arcsec=0.001, right=SkyColumns(epoch="epoch", epoch_yr=1990.0))
    assert match_partition(left, right, None, config).num_rows == 1
    with pytest.raises(InputError, match="right table, column epoch, row 0"):
        match_partition(left, right, None, with_(config, right=SkyColumns(epoch="epoch")))


def test_a_star_without_motion_needs_no_epoch_of_its_own():
    nothing = pa.array([None], pa.float64())
    left = one_star(2000.0, pmdec=0.0).append_column("pmra", nothing).append_column("epoch", nothing)
    config = with_(TO_YEAR, left=with_(MOVING, epoch="epoch", epoch_yr=None))
    assert match_partition(left, one_star(2000.0), None, config)["no_motion"].to_pylist() == [True]
    moving = left.set_column(3, "pmra", pa.array([1.0]))
    with pytest.raises(InputError, match="left table, column epoch, row 0"):
        match_partition(moving, one_star(2000.0), None, config)


def test_a_year_and_rows_of_that_year_agree():
    left = stars(13, 400)
    right = right_of(left, 14)
    right = right.set_column(right.schema.get_field_index("epoch"), "epoch", pa.array(np.full(len(right), 2000.0)))
    year = match_partition(left, right, None, with_(TO_YEAR, keep="all", radius_arcsec=5.0))
    rows = match_partition(left, right, None, with_(BY_ROW, keep="all", radius_arcsec=5.0))
    assert year.num_rows > 400
    assert year.drop_columns("separation_arcsec").equals(rows.drop_columns("separation_arcsec"))
    difference = np.subtract(year["separation_arcsec"], rows["separation_arcsec"])
    assert np.abs(difference).max() < 1e-9
