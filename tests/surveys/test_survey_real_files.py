"""Real files, where they are at hand: exact row counts and spot values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from astropy.table import Table

from stellarscale.flags import Flag
from stellarscale.schema import load_survey
from stellarscale.surveys.read import inspect, read_batches

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the shared real data are not beside the repository")

GAIA = "crossmatch/ngc188_gaia_results.fits"
TWOMASS = "crossmatch/ngc188_2MASS_results.ecsv"
APOKASC = "forest/apogee_APOKASC_Catalog.v7.1.fits"
PILOT = "forest/lamost_pilot_ugrizjh.csv"
SEGUE = "forest/segue_ugriz_feh_valid.csv"


def read(name: str, survey: str) -> pa.Table:
    schema = load_survey(survey)
    batches = list(read_batches(DATA / name, schema, inspect(DATA / name, schema), batch_rows=1000))
    assert sum(batch.rejects.num_rows for batch in batches) == 0
    return pa.concat_tables([batch.table for batch in batches])


@pytest.mark.parametrize(
    "name, survey, rows",
    [
        (GAIA, "gaia_dr3", 4876),
        (TWOMASS, "twomass_psc", 5014),
        (SEGUE, "segue_colours", 27911),
        (APOKASC, "apokasc", 2826),
        (PILOT, "lamost_pilot", 3165),
        (PILOT, "lamost_pilot_photometry", 3165),
    ],
)
def test_every_row_arrives(name, survey, rows):
    table = read(name, survey)
    assert table.num_rows == rows
    id_column = table[load_survey(survey).id]
    assert id_column.null_count == 0
    for field in table.schema:
        if pa.types.is_floating(field.type):
            assert not pc.any(pc.is_nan(table[field.name])).as_py(), field.name


def test_gaia_against_astropy():
    table, native = read(GAIA, "gaia_dr3"), Table.read(DATA / GAIA)
    assert table["source_id"].to_pylist() == native["source_id"].tolist()
    assert np.array_equal(table["ra"].to_numpy(), np.asarray(native["ra"]))
    motion = np.asarray(native["pmra"].filled(np.nan) if hasattr(native["pmra"], "filled") else native["pmra"])
    assert np.array_equal(table["pmra"].to_numpy(), motion, equal_nan=True)


def test_two_mass_limits_and_epochs():
    table = read(TWOMASS, "twomass_psc")
    limits = pc.equal(pc.utf8_slice_codeunits(table["ph_qual"], 2, 3), "U")
    flagged = table.filter(limits)["quality_flags"].to_numpy() & int(Flag.UPPER_LIMIT)
    assert len(flagged) > 0
    assert flagged.all()
    assert table.filter(limits)["k_mag_err"].null_count == len(flagged)
    epochs = table["epoch_yr"].to_numpy()
    assert 1997 < epochs.min() <= epochs.max() < 2001.5


def test_apokasc_has_the_rows_that_a_forest_can_use():
    table = read(APOKASC, "apokasc")
    features = [f"sdss_{band}_mag" for band in "griz"] + ["j_mag", "h_mag", "k_mag", "teff", "logg", "m_h"]
    assert table.select(features).drop_null().num_rows == 2377


def test_segue_keeps_no_absurd_colour():
    table = read(SEGUE, "segue_colours")
    flagged = pc.sum(pc.not_equal(table["quality_flags"], 0)).as_py()
    assert flagged == 4
    assert max(abs(value) for value in pc.min_max(table["r_i"]).as_py().values()) < 10


def test_pilot_sentinels():
    labels, photometry = read(PILOT, "lamost_pilot"), read(PILOT, "lamost_pilot_photometry")
    assert labels["obsid"].equals(photometry["obsid"])
    assert pc.min(labels["snr_i"]).as_py() > 0
    for band in ("sdss_u_mag", "sdss_g_mag", "sdss_z_mag", "h_mag"):
        low, high = pc.min_max(photometry[band]).as_py().values()
        assert 5 < low < high < 40
