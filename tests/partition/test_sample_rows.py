from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference.mock_sample import CUTS, changed, columns_of, matched_spectra, selection

from stellarscale.errors import SchemaError
from stellarscale.partition.sample import needed_columns, reason_counts, rejects_schema, sample_rows

CONFIG = selection(keep=["truth_colour", "truth_magnitude"])
TABLE = matched_spectra(30, 20)


def test_good_rows_are_kept_with_their_place_in_the_diagram():
    kept, rejects = sample_rows(TABLE, CONFIG)
    assert kept.num_rows == 50
    assert rejects.num_rows == 0
    np.testing.assert_allclose(kept["bp_rp_0"], kept["truth_colour"], atol=1e-5)
    np.testing.assert_allclose(kept["m_g_0"], kept["truth_magnitude"], atol=1e-5)
    assert kept["branch"].to_pylist() == ["dwarf"] * 30 + ["giant"] * 20
    assert kept.column_names == [*CONFIG.carried, "branch", "distance_pc", "bp_rp_0", "m_g_0"]
    assert kept["gaia_source_id"].type == pa.int64()
    assert kept.schema.field("distance_pc").metadata[b"unit"] == b"pc"


CASES = [
    ("gaia_source_id", None, "no star"),
    ("obsid", None, "no id"),
    ("snr_i", 9.99, "S/N"),
    ("snr_i", float("nan"), "S/N"),
    ("subclass", "K7", "subclass"),
    ("subclass", "M2", "subclass"),
    ("subclass", None, "subclass"),
    ("gaia_bp_mag", None, "photometry BP"),
    ("gaia_g_mag_err", 0.08, "error of G"),
    ("gaia_rp_mag_err", None, "error of RP"),
    ("gaia_rp_mag_err", -9.0, "error of RP"),
    ("gaia_ruwe", 1.4, "RUWE"),
    ("gaia_ruwe", None, "RUWE"),
    ("gaia_parallax", -5.0, "relative error of the parallax"),
    ("gaia_parallax_error", 1e6, "relative error of the parallax"),
    ("bj_r_med_photogeo", None, "no distance"),
    ("bj_r_med_photogeo", 0.0, "no distance"),
    ("bj_r_med_photogeo", float("inf"), "no distance"),
    ("starhorse_av", None, "no E(B-V)"),
]


@pytest.mark.parametrize("column, value, reason", CASES)
def test_each_cut_rejects_its_row_with_its_reason(column, value, reason):
    kept, rejects = sample_rows(changed(TABLE, column, {3: value}), CONFIG)
    assert kept.num_rows == 49
    assert rejects["reason"].to_pylist() == [reason]
    assert rejects["obsid"].to_pylist() == [None if column == "obsid" else 1003]
    assert rejects.schema == rejects_schema(TABLE.schema, CONFIG)


def test_relative_errors_bite_on_bright_stars_only_and_never_below_zero():
    table = changed(TABLE, "gaia_g_mag", {0: 1.0, 1: 1.0, 2: -0.5})
    table = changed(table, "gaia_g_mag_err", {0: 0.051, 1: 0.049, 2: 0.06})
    _, rejects = sample_rows(table, CONFIG)
    assert dict(zip(rejects["obsid"].to_pylist(), rejects["reason"].to_pylist(), strict=True)) == {
        1000: "relative error of G"
    }


def test_the_first_reason_counts_and_reasons_are_counted():
    table = changed(changed(TABLE, "snr_i", {0: 1.0, 1: 2.0}), "gaia_ruwe", {0: 9.0, 2: 9.0})
    _, rejects = sample_rows(table, CONFIG)
    assert reason_counts(rejects) == {"S/N": 2, "RUWE": 1}


@pytest.mark.parametrize(
    "reddening, ebv",
    [
        ({"column": "ebv"}, None),
        ({"value": 0.2}, None),
        ({"sfd98": "maps"}, np.full(50, 0.2)),
        ({"av_column": "av", "av_per_ebv": 2.5}, None),
    ],
)
def test_every_source_of_reddening(reddening, ebv):
    table = TABLE.append_column("ebv", pa.array(np.full(50, 0.2))).append_column("av", pa.array(np.full(50, 0.5)))
    kept, _ = sample_rows(table, selection(cuts=CUTS | {"reddening": reddening}), ebv)
    bp_rp = np.array(table["gaia_bp_mag"]) - np.array(table["gaia_rp_mag"])
    np.testing.assert_allclose(kept["bp_rp_0"], bp_rp - 0.2 * (2.998 - 1.737), atol=1e-5)


@pytest.mark.parametrize("ebv", [None, np.zeros(3)])
def test_maps_without_values_for_each_row_are_an_error(ebv):
    with pytest.raises(SchemaError, match="E\\(B-V\\) was not handed over"):
        sample_rows(TABLE, selection(cuts=CUTS | {"reddening": {"sfd98": "maps"}}), ebv)


def test_a_missing_column_is_named():
    with pytest.raises(SchemaError, match="Needed: aspcap_teff_err, gaia_ruwe"):
        sample_rows(TABLE.drop_columns(["gaia_ruwe", "aspcap_teff_err"]), CONFIG)


def test_an_empty_partition_gives_empty_tables_of_the_same_schema():
    kept, rejects = sample_rows(TABLE, CONFIG)
    none_kept, none_rejected = sample_rows(TABLE.slice(0, 0), CONFIG)
    assert (none_kept.num_rows, none_rejected.num_rows) == (0, 0)
    assert none_kept.schema == kept.schema
    assert none_rejected.schema == rejects.schema


def test_only_the_named_columns_are_needed_and_the_pixel_is_carried():
    table = TABLE.select(needed_columns(CONFIG)).append_column("_healpix_29", pa.array(range(50), pa.int64()))
    kept, _ = sample_rows(table, CONFIG)
    assert kept.column_names[0] == "_healpix_29"


cells = st.one_of(st.none(), st.floats(-3, 30))


@given(st.lists(st.tuples(cells, cells, cells, st.sampled_from(["dM1", "gM", "M", None])), max_size=20))
def test_rows_are_conserved(rows):
    table = TABLE.slice(0, len(rows))
    for place, column in enumerate(("snr_i", "gaia_g_mag", "bj_r_med_photogeo", "subclass")):
        table = changed(table, column, {n: row[place] for n, row in enumerate(rows)})
    kept, rejects = sample_rows(table, CONFIG)
    assert kept.num_rows + rejects.num_rows == len(rows)
    assert np.isfinite(kept["m_g_0"].to_numpy()).all()
    assert rejects["reason"].null_count == 0


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"keep": ["teff"]}, "makes columns of these names itself: teff"),
        ({"cuts": CUTS | {"reddening": {}}}, "exactly one of"),
        (
            {"catalogs": [{"name": "a", "columns": columns_of("aspcap"), "branches": ["dwarf"]}]},
            "serves the branch giant",
        ),
        ({"catalogs": [{"name": "a", "columns": columns_of("aspcap"), "branches": ["dwraf"]}]}, "do not exist: dwraf"),
        (
            {"catalogs": [{"name": "a", "columns": columns_of("aspcap"), "offsets": {"x": [0, 0, 0]}}]},
            "do not exist: x",
        ),
        ({"exclusions": [{"name": "v"}]}, "either `column` or `file`"),
        (
            {
                "branches": [
                    {"name": "dwarf", "subclasses": ["dM", "M"], "max_distance_pc": 2000},
                    {"name": "giant", "subclasses": ["M2"], "max_distance_pc": 2000},
                ]
            },
            "M2 would belong to giant and dwarf",
        ),
        ({"branches": [{"name": "d", "subclasses": ["dM"], "max_distance_pc": 9, "colour": [2, 1]}]}, "holds no value"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        selection(**changes)
