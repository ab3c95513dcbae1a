from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.config import FeatureConfig
from stellarscale.errors import SchemaError
from stellarscale.flags import Flag
from stellarscale.partition.features import add_features, failed_cuts, feature_names, matrix, needed_columns

CONFIG = FeatureConfig.model_validate(
    {
        "bands": {
            "g": {"mag": "g_mag", "err": "g_err", "extinction": 2.364, "train_err": 0.01, "predict_err": 0.1},
            "bp": {"mag": "bp_mag", "extinction": 2.998},
            "rp": {"mag": "rp_mag", "extinction": 1.737},
        },
        "ebv": {"column": "e_bv"},
        "ebv_max_train": 0.05,
        "ebv_max_predict": 0.5,
        "parallax": {"value": "plx", "error": "plx_err", "train_snr": 5, "predict_snr": 1},
        "colours": ["bp-g"],
        "absolute": ["g"],
        "classes": {
            "rules": [
                {"name": "white_dwarf", "code": 3, "fainter_than": [8.333, 3.333]},
                {"name": "giant", "code": 0, "brighter_than": [-1.8, 6.5, -1.0]},
                {"name": "dwarf", "code": 1},
            ],
            "likely_giant": "giant",
        },
    }
)


def stars(**columns):
    base = {
        "g_mag": [10.0], "g_err": [0.005], "bp_mag": [10.5], "rp_mag": [9.5], "e_bv": [0.02], "plx": [10.0],
        "plx_err": [0.1], "quality_flags": [0],
    }  # fmt: skip
    base |= columns
    length = max(len(values) for values in base.values())
    types = {"quality_flags": pa.int32()}
    return pa.table(
        {k: pa.array(v * length if len(v) == 1 else v, types.get(k, pa.float64())) for k, v in base.items()}
    )


def test_features_of_one_star_by_hand():
    row = add_features(stars(), CONFIG).to_pylist()[0]
    assert row["ebv"] == pytest.approx(0.02)
    assert row["g_0"] == pytest.approx(10 - 0.02 * 2.364, abs=1e-5)
    assert row["bp_g_0"] == pytest.approx(0.5 - 0.02 * (2.998 - 2.364), abs=1e-5)
    assert row["m_g_0"] == pytest.approx(10 - 0.02 * 2.364 - 5, abs=1e-5)
    assert row["bp_rp_0"] == pytest.approx(1 - 0.02 * (2.998 - 1.737), abs=1e-5)
    assert row["class_code"] == 1


def test_names_are_declared_before_anything_is_computed():
    assert feature_names(CONFIG) == ["ebv", "g_0", "bp_0", "rp_0", "bp_g_0", "bp_rp_0", "m_g_0"]
    empty = add_features(stars().slice(0, 0), CONFIG)
    assert empty.schema == add_features(stars(), CONFIG).schema
    assert empty.num_rows == 0


@pytest.mark.parametrize(
    "g_mag, plx, expected",
    [(10.0, 10.0, 1), (10.0, 0.5, 0), (18.0, 10.0, 3)],
    ids=["dwarf", "giant", "white dwarf"],
)
def test_classes(g_mag, plx, expected):
    table = stars(g_mag=[g_mag], bp_mag=[g_mag + 0.5], rp_mag=[g_mag - 0.5], plx=[plx])
    assert add_features(table, CONFIG)["class_code"].to_pylist() == [expected]


def test_uncertain_parallax_means_likely_giant_and_is_flagged():
    table = stars(plx=[-0.2, 0.05, 10.0], plx_err=[0.1])
    result = add_features(table, CONFIG)
    assert result["class_code"].to_pylist() == [0, 0, 1]
    assert (result["quality_flags"].to_numpy() & Flag.CLASS_BY_PARALLAX_LIMIT > 0).tolist() == [True, True, False]


def test_the_likely_giant_switch_can_be_off():
    classes = CONFIG.classes.model_copy(update={"likely_giant": None})
    config = CONFIG.model_copy(update={"classes": classes})
    result = add_features(stars(plx=[-0.2, 10.0]), config)
    assert result["class_code"].to_pylist() == [None, 1]
    assert result["quality_flags"].to_pylist() == [0, 0]


def test_missing_values_stay_missing_and_old_flags_stay():
    table = stars(bp_mag=[None, 10.5], quality_flags=[4, 0])
    result = add_features(table, CONFIG).to_pylist()
    assert result[0]["bp_0"] is None
    assert result[0]["bp_rp_0"] is None
    assert result[0]["class_code"] is None
    assert result[0]["g_0"] is not None
    assert result[0]["quality_flags"] == 4


def test_cuts_differ_between_training_and_prediction():
    table = add_features(stars(g_err=[0.05, 0.005, None], e_bv=[0.02, 0.2, 0.02], plx=[10.0, 0.3, 10.0]), CONFIG)
    training = failed_cuts(table, CONFIG, training=True)
    assert training["error of g"].tolist() == [True, False, True]
    assert training["E(B-V)"].tolist() == [False, True, False]
    assert training["parallax over error"].tolist() == [False, True, False]
    prediction = failed_cuts(table, CONFIG, training=False)
    assert prediction["error of g"].tolist() == [False, False, True]
    assert not prediction["E(B-V)"].any()


def test_matrix_is_float32_with_nan_for_null():
    table = add_features(stars(bp_mag=[None, 10.5]), CONFIG)
    values = matrix(table, ["bp_0", "g_0"])
    assert values.dtype == np.float32
    assert np.isnan(values[0, 0])
    assert np.isfinite(values[1]).all()
    with pytest.raises(SchemaError, match="nope"):
        matrix(table, ["nope"])


def test_maps_are_used_where_the_job_names_them():
    config = CONFIG.model_copy(update={"ebv": CONFIG.ebv.model_copy(update={"column": None, "sfd98": "maps"})})
    result = add_features(stars(), config, ebv=np.array([0.3]))
    assert result["g_0"].to_pylist()[0] == pytest.approx(10 - 0.3 * 2.364, abs=1e-5)
    with pytest.raises(SchemaError, match="no E\\(B-V\\) was handed over"):
        add_features(stars(), config)


def test_the_needed_columns_are_enough_and_none_is_spare():
    table = stars(plx_err=[0.1, 20.0])
    needed = needed_columns(CONFIG)
    few, whole = add_features(table.select(needed), CONFIG), add_features(table, CONFIG)
    names = [*feature_names(CONFIG), "class_code"]
    assert few.select(names).equals(whole.select(names))
    assert failed_cuts(few, CONFIG, training=True).keys() == failed_cuts(whole, CONFIG, training=True).keys()
    for name in needed:
        with pytest.raises(SchemaError, match=f"Needed: {name}"):
            add_features(table.drop_columns([name]), CONFIG)


def test_missing_and_taken_columns_are_told():
    with pytest.raises(SchemaError, match="Needed: g_err, plx"):
        add_features(stars().drop_columns(["plx", "g_err"]), CONFIG)
    taken = stars().append_column("g_0", pa.array([1.0]))
    with pytest.raises(SchemaError, match=r"hide a column.*g_0"):
        add_features(taken, CONFIG)
