"""Members of a cluster among the rows of a table, stage by stage."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa

from stellarscale.partition.clusters import STAGES, cluster_members
from stellarscale.settings.clusters import StarCluster
from stellarscale.settings.evaluation import ClusterSettings

CLUSTER = StarCluster(ra=100.0, dec=20.0, radius_deg=0.3, pmra=-2.0, pmdec=3.0, fe_h=-0.5, reference="made up")
SETTINGS = ClusterSettings(max_mag_error={"u_mag_err": 0.05})


def stars(members=80, field=200, seed=1):
    rng = np.random.default_rng(seed)
    n = members + field
    inside = np.arange(n) < members
    magnitude = rng.uniform(11, 16, n)
    return pa.table(
        {
            "pmra": np.where(inside, rng.normal(-2, 0.05, n), rng.normal(0, 5, n)),
            "pmdec": np.where(inside, rng.normal(3, 0.05, n), rng.normal(0, 5, n)),
            "pmra_error": np.where(np.arange(n) == 0, 0.4, 0.05),
            "pmdec_error": np.full(n, 0.05),
            "parallax": np.where(np.arange(n) == 1, 4.0, np.where(inside, rng.normal(0.4, 0.03, n), 1.5)),
            "parallax_error": np.full(n, 0.03),
            "bp_rp_0": np.where(np.arange(n) == 2, 3.0, 0.15 * (magnitude - 8) + rng.normal(0, 0.01, n)),
            "g_mag": magnitude,
            "u_mag_err": np.where(np.arange(n) == 3, 0.2, 0.01),
            "fe_h": pa.array(rng.normal(-0.5, 0.1, n), mask=np.arange(n) == 4),
        }
    )


def test_each_stage_takes_its_star_away():
    found = cluster_members(stars(), CLUSTER, SETTINGS)
    passed = {stage: found.stars[stage].to_numpy() for stage in STAGES}
    for number, stage in enumerate(STAGES[:1] + STAGES[2:]):
        assert not passed[stage][number], f"star {number} should fail at {stage}"
    assert not passed["used"][4], "no label"
    assert passed["used"][5:80].mean() > 0.95
    assert passed["used"][80:].sum() <= 2
    for before, after in pairwise(STAGES):
        assert not (passed[after] & ~passed[before]).any()


def test_no_row_is_lost_and_columns_are_added():
    table = stars()
    found = cluster_members(table, CLUSTER, SETTINGS)
    assert found.stars.num_rows == table.num_rows
    assert found.stars.column_names == [*table.column_names, "probability", *STAGES, "ridge_colour"]
    assert found.stars["probability"].null_count == table.num_rows - found.count("precise_motion")


def test_an_empty_table_gives_an_empty_table():
    found = cluster_members(stars().slice(0, 0), CLUSTER, SETTINGS)
    assert found.fit is None
    assert found.stars.num_rows == 0
    assert found.stars.schema == cluster_members(stars(), CLUSTER, SETTINGS).stars.schema


def test_without_an_over_density_nobody_is_a_member():
    found = cluster_members(stars(members=0, field=300), CLUSTER, SETTINGS)
    assert found.count("used") < SETTINGS.min_members
