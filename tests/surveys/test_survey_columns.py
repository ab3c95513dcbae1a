"""Choosing the columns to import: what comes along, what is read, what stays as it was."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from stellarscale.errors import ConfigError
from stellarscale.schema import SurveySchema, load_survey
from stellarscale.surveys.mapping import match_columns
from stellarscale.surveys.plan import check_names, chosen_columns, make_plan
from stellarscale.surveys.read import inspect, open_source, read_batches

GAIA = load_survey("gaia_dr3")
ROWS = 300


@pytest.fixture
def gaia_file(tmp_path):
    rng = np.random.default_rng(4)
    numbers = ("parallax", "pmra", "pmdec", "phot_g_mean_mag", "phot_bp_mean_mag", "ruwe")
    fluxes = ("phot_g_mean_flux", "phot_g_mean_flux_error", "phot_bp_mean_flux", "phot_bp_mean_flux_error")
    table = {"source_id": np.arange(ROWS), "ra": rng.uniform(0, 360, ROWS), "dec": rng.uniform(-90, 90, ROWS)}
    table |= {name: rng.uniform(1, 100, ROWS) for name in (*numbers, *fluxes)}
    table |= {"ref_epoch": np.full(ROWS, 2016.0), "duplicated_source": np.arange(ROWS) % 7 == 0}
    path = tmp_path / "gaia.csv"
    csv.write_csv(pa.table(table), path)
    return path


def read(path, columns) -> pa.Table:
    return pa.concat_tables(batch.table for batch in read_batches(path, GAIA, columns, batch_rows=70))


def test_no_choice_means_every_column(gaia_file):
    available = inspect(gaia_file, GAIA)
    assert chosen_columns(GAIA, available, ()) == available


def test_id_position_motion_and_epoch_come_along_in_the_schemas_order(gaia_file):
    chosen = chosen_columns(GAIA, inspect(gaia_file, GAIA), ("g_mag_err", "g_mag", "quality_flags", "dec"))
    assert chosen == ("source_id", "ra", "dec", "epoch_yr", "pmra", "pmdec", "g_mag", "g_mag_err")


def test_what_the_schema_requires_comes_along():
    sages = load_survey("sages_dr1")
    available = tuple(name for name, column in sages.columns.items() if column.keep)
    assert {"u_mag", "v_mag"} < set(chosen_columns(sages, available, ("flag_u",)))
    assert "u_mag_err" not in chosen_columns(sages, available, ("flag_u",))


def test_values_and_flags_are_those_of_the_whole_import(gaia_file):
    available = inspect(gaia_file, GAIA)
    few = chosen_columns(GAIA, available, ("g_mag_err",))
    whole, part = read(gaia_file, available), read(gaia_file, few)
    assert part.column_names == [*few, "quality_flags"]
    assert part.equals(whole.select(part.column_names))
    assert np.count_nonzero(part["quality_flags"].to_numpy()) == len(range(0, ROWS, 7))  # duplicated_source


def test_only_what_the_chosen_columns_and_the_flags_need_is_read(gaia_file):
    source = open_source(gaia_file, GAIA)
    mapping = match_columns(source, GAIA)
    plan = make_plan(source, GAIA, mapping, chosen_columns(GAIA, inspect(gaia_file, GAIA), ("g_mag_err",)))
    always = {"source_id", "ra", "dec", "ref_epoch", "pmra", "pmdec"}
    assert set(plan.native_types()) == always | {"phot_g_mean_flux", "phot_g_mean_flux_error", "duplicated_source"}


def test_a_survey_without_motion_and_epoch():
    schema = SurveySchema.model_validate(
        {
            "name": "s",
            "alias": "s",
            "title": "s",
            "id": "id",
            "position": {"ra": "lon", "dec": "lat"},
            "columns": {name: {"native": [name]} for name in ("id", "lon", "lat", "a", "b")},
        }
    )
    assert chosen_columns(schema, ("id", "lon", "lat", "a", "b"), ("b",)) == ("id", "lon", "lat", "b")


def test_an_unknown_column_is_told_with_the_nearest_name():
    with pytest.raises(ConfigError, match="no such column to import") as caught:
        check_names(GAIA, ("g_mag", "paralax"))
    assert caught.value.seen == "'paralax'"
    assert "parallax_error" in caught.value.needed
    assert caught.value.cause == "did you mean 'parallax'?"


def test_a_column_that_is_never_stored_cannot_be_chosen(gaia_file):
    with pytest.raises(ConfigError, match="no such column to import") as caught:
        chosen_columns(GAIA, inspect(gaia_file, GAIA), ("g_flux",))
    assert caught.value.cause.startswith("it is read for other columns and flags only")


def test_a_chosen_column_that_the_file_lacks_is_an_error(gaia_file):
    with pytest.raises(ConfigError, match="not in its files") as caught:
        chosen_columns(GAIA, inspect(gaia_file, GAIA), ("g_mag", "rv", "rp_mag"))
    assert caught.value.seen == "rv, rp_mag"
    assert "bp_mag" in caught.value.needed
