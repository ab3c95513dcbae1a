"""A job's cuts as ADQL: the paper's query, and SQL that takes what the cuts take."""

from __future__ import annotations

import math
import re
import sqlite3

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellarscale.config import load_job
from stellarscale.errors import ConfigError
from stellarscale.partition.cuts import passes
from stellarscale.products.adql import detections_query, job_queries, selection_query
from stellarscale.schema import load_survey
from stellarscale.settings.cuts import Cut, Selection

# Paper III, section 6; the last sign is lost in its text.
PAPER = """
SELECT *
FROM dr4.master
WHERE ABS (glat) >=10
AND flags=0
AND class_star >=0.6
AND u_ngood >=1 AND v_ngood >=1
AND g_ngood >=1 AND r_ngood >=1
AND i_ngood >=1 AND z_ngood >=1
AND self_dist1 >=15
"""
MASTER, DETECTIONS = load_survey("skymapper_dr4"), load_survey("skymapper_dr4_photometry")


def plain(query: str) -> str:
    """A query without comments and spaces."""
    return re.sub(r"\s", "", re.sub(r"--.*", "", query))


def test_the_cuts_of_the_paper_give_its_query():
    selection = load_job("acf").selection
    failing = [cut.model_copy(update={"null": "fail"}) for cut in selection.cuts]
    query = selection_query(selection.model_copy(update={"cuts": tuple(failing)}), schema=MASTER)
    assert plain(query) == plain(PAPER)
    assert "-- left to the job, it needs other tables: parallax" in query


def test_a_missing_neighbour_passes():
    query = selection_query(load_job("acf").selection, schema=MASTER)
    assert plain(query) == plain(PAPER.replace("self_dist1 >=15", "(self_dist1 >= 15 OR self_dist1 IS NULL)"))


@pytest.mark.parametrize("quality", ["low", "all"])
def test_relaxed_cuts_are_left_out_for_other_qualities(quality):
    selection = load_job("acf").selection.model_copy(update={"quality": quality})
    query = selection_query(selection, schema=MASTER)
    assert "WHERE class_star >= 0.6\nAND u_ngood" in query
    for name in ("latitude", "flags", "neighbour"):
        assert f"-- may fail: {name}" in query
    assert "glat" not in plain(query)


def test_without_cuts_there_is_no_condition():
    assert selection_query(Selection(), schema=MASTER, table="t") == "SELECT *\nFROM t"


def test_the_queries_of_the_shipped_job():
    stars, detections, exposures = job_queries(load_job("acf")).split("\n\n")
    assert stars.startswith(
        "-- submit each query to SkyMapper's TAP service, https://api.skymapper.nci.org.au/public/tap/"
    )
    assert "FROM dr4.master\nWHERE" in stars
    assert "FROM dr4.photometry AS p JOIN dr4.master AS m ON p.object_id = m.object_id" in detections
    assert "WHERE ABS(m.glat) >= 10\nAND m.flags = 0" in detections
    assert detections.endswith("AND p.use_in_clipped = 1")
    assert "p.filter, p.ra_img, p.decl_img" in detections
    assert exposures.endswith("SELECT *\nFROM dr4.images")


def test_a_survey_without_known_tables_is_told():
    with pytest.raises(ConfigError, match=r"catalogs\.master.*gaia_dr3"):
        job_queries(load_job("acf", ["catalogs.master.survey=gaia_dr3"]))


def test_the_detections_are_those_of_the_stars():
    """The joined query on two small tables."""
    with sqlite3.connect(":memory:") as base:
        base.execute("ATTACH ':memory:' AS dr4")
        base.execute("CREATE TABLE dr4.master (object_id, flags)")
        base.executemany("INSERT INTO dr4.master VALUES (?, ?)", [(1, 0), (2, 4)])
        natives = [column.native[0] for column in DETECTIONS.columns.values() if column.native]
        base.execute(f"CREATE TABLE dr4.photometry ({', '.join(natives)})")
        rows = [(1, 10, 1), (1, 11, 0), (2, 10, 1)]
        base.executemany("INSERT INTO dr4.photometry (object_id, image_id, use_in_clipped) VALUES (?, ?, ?)", rows)
        query = detections_query(
            Selection(cuts=(Cut(name="flags", columns=("flags",), equals=0),)),
            [Cut(name="use", columns=("use_in_clipped",), equals=1)],
            schemas=(MASTER, DETECTIONS),
        )
        found = base.execute(query).fetchall()
    assert [row[:2] for row in found] == [(1, 10)]
    assert len(found[0]) == len(natives)


value = st.one_of(st.none(), st.just(math.nan), st.integers(-3, 3).map(float))


@settings(deadline=None, max_examples=200)
@given(
    rows=st.lists(st.tuples(value, value), min_size=1, max_size=12),
    tests=st.dictionaries(st.sampled_from(["equals", "min", "max", "below", "above"]), st.integers(-2, 2), min_size=1),
    over=st.booleans(),
    absolute=st.booleans(),
    null=st.sampled_from(["fail", "pass"]),
)
def test_the_query_takes_the_rows_that_pass(rows, tests, over, absolute, null):
    cut = Cut(
        name="c",
        columns=("glat",),
        over="self_dist_arcsec" if over else None,
        absolute=absolute,
        null=null,
        **tests,
    )
    kind = pa.float64()
    table = pa.table(
        {name: pa.array([row[i] for row in rows], kind) for i, name in enumerate(("glat", "self_dist_arcsec"))}
    )
    with sqlite3.connect(":memory:") as base:
        base.execute("CREATE TABLE stars (glat, self_dist1)")
        base.executemany("INSERT INTO stars VALUES (?, ?)", rows)  # NaN becomes NULL, as a service has it
        query = selection_query(Selection(cuts=(cut,)), schema=MASTER, table="stars")
        found = base.execute(query.replace("SELECT *", "SELECT rowid")).fetchall()
    np.testing.assert_array_equal(np.flatnonzero(passes(table, [cut])) + 1, [row[0] for row in found])
