from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.config import FeatureConfig, ModelSpec, SagesOutput
from stellarscale.errors import SchemaError
from stellarscale.flags import Flag
from stellarscale.kernels.conformal import Estimate
from stellarscale.partition.predict import PredictConfig, output_schema, predict_partition
from stellarscale.schema import load_product

FEATURES = FeatureConfig.model_validate(
    {
        "bands": {"g": {"mag": "g_mag", "err": "g_err", "predict_err": 0.1}, "r": {"mag": "r_mag"}},
        "parallax": {"value": "plx", "error": "plx_err", "predict_snr": 1},
        "classes": {
            "colour": "g-r",
            "absolute": "g",
            "rules": [{"name": "giant", "code": 0}, {"name": "dwarf", "code": 1}, {"name": "other", "code": 2}],
        },
    }
)
CONFIG = PredictConfig(
    features=FEATURES,
    inputs=("g_0", "r_0"),
    models=(ModelSpec(label="teff", classes=("giant",)), ModelSpec(label="teff", classes=("dwarf",))),
    output=SagesOutput(columns={"star": "id", "ra": "ra"}, colour_limit=("g_r_0", 1.5)),
    product=load_product("sages"),
)


def rows(**columns):
    base = {
        "id": [7], "ra": [1.0], "g_err": [0.01], "plx": [5.0], "plx_err": [0.1], "g_0": [1.0], "r_0": [2.0],
        "g_r_0": [0.5], "class_code": [1], "quality_flags": [0],
    } | columns  # fmt: skip
    length = max(len(values) for values in base.values())
    types = {"id": pa.int64(), "class_code": pa.int8(), "quality_flags": pa.int32()}
    table = {k: pa.array(v * length if len(v) == 1 else v, types.get(k, pa.float64())) for k, v in base.items()}
    return pa.table({"_healpix_29": pa.array(range(length), pa.int64()), **table})


@dataclass(frozen=True)
class Fake:
    """A model of a formula: value and error from the inputs; the 95 % interval is twice the error, or the magnitude."""

    formula: Callable = lambda x: (x[:, 0], x[:, 1])
    magnitude: str | None = None
    known: float = np.inf
    noise: tuple[str, ...] = ()

    def is_novel(self, x):
        return x[:, 0] > self.known

    def estimate(self, x, magnitude, noise):
        assert (magnitude is None) == (self.magnitude is None)
        assert noise.shape == (len(x), len(self.noise))
        value, err = self.formula(x)
        err = err + noise.sum(axis=1)
        return Estimate(value, err, err, 2 * err if magnitude is None else magnitude, self.is_novel(x))


def predictors(**options):
    return {
        "teff_giant": Fake(lambda x: (x[:, 0] * 100, x[:, 1]), **options),
        "teff_dwarf": Fake(lambda x: (x[:, 0] * 1000, x[:, 1]), **options),
    }


def test_each_class_goes_to_its_model():
    result = predict_partition(rows(class_code=[1, 0, 1], g_0=[4.0, 5.0, 6.0]), CONFIG, predictors())
    assert result["teff"].to_pylist() == [4000, 500, 6000]
    assert result["teff_err"].to_pylist() == [2, 2, 2]
    assert result["teff_err95"].to_pylist() == [4, 4, 4]
    assert result["quality_flags"].to_pylist() == [0, 0, 0]
    assert result["star"].to_pylist() == [7, 7, 7]


@pytest.mark.parametrize(
    "column, value, flag",
    [
        ("g_err", 0.2, Flag.FAILED_CUT),
        ("g_err", None, Flag.FAILED_CUT),
        ("plx", 0.05, Flag.LOW_PARALLAX_SNR),
        ("g_0", None, Flag.MISSING_FEATURE),
        ("g_r_0", 1.6, Flag.BEYOND_COLOUR_LIMIT),
        ("class_code", 2, Flag.NO_MODEL_FOR_CLASS),
        ("class_code", None, Flag.NO_MODEL_FOR_CLASS),
    ],
)
def test_a_star_that_may_have_no_parameters_gets_none_and_a_reason(column, value, flag):
    good = {"g_err": 0.01, "plx": 5.0, "g_0": 1.0, "g_r_0": 0.5, "class_code": 1}[column]
    result = predict_partition(rows(**{column: [value, good]}), CONFIG, predictors())
    assert result["teff"].to_pylist()[0] is None
    assert result["teff_err"].to_pylist()[0] is None
    assert result["teff_err95"].to_pylist()[0] is None
    assert result["teff"].to_pylist()[1] is not None
    assert result["quality_flags"].to_pylist() == [int(flag), 0]


def test_schema_is_declared_and_holds_for_no_rows():
    table = rows()
    schema = output_schema(table.schema, CONFIG)
    assert schema.names == ["_healpix_29", "star", "ra", "teff", "teff_err", "teff_err95", "quality_flags"]
    assert predict_partition(table, CONFIG, predictors()).schema == schema
    assert predict_partition(table.slice(0, 0), CONFIG, predictors()).schema == schema
    assert schema.field("teff").metadata[b"unit"] == b"K"


def test_rows_are_never_dropped():
    table = rows(g_0=[np.nan if i % 3 else 1.0 for i in range(50)])
    assert predict_partition(table, CONFIG, predictors()).num_rows == 50


def test_predictors_get_contiguous_float32_of_usable_rows_only():
    seen = []

    def spy(x):
        seen.append((x.dtype, x.flags.c_contiguous, len(x)))
        return x[:, 0], x[:, 1]

    predict_partition(rows(g_0=[1.0, None, 3.0]), CONFIG, {"teff_dwarf": Fake(spy), "teff_giant": Fake(spy)})
    assert seen == [(np.dtype(np.float32), True, 2)]


def test_output_columns_without_a_source_are_told():
    config = PredictConfig(**{**CONFIG.__dict__, "output": SagesOutput(columns={"x": "nowhere"})})
    with pytest.raises(SchemaError, match="nowhere"):
        output_schema(rows().schema, config)


def test_a_class_that_lacks_a_model_for_one_parameter_is_flagged():
    models = (ModelSpec(label="teff", classes=("dwarf",)), ModelSpec(label="logg", classes=("dwarf", "giant")))
    config = PredictConfig(**{**CONFIG.__dict__, "models": models})
    by_name = {"teff_dwarf": Fake(), "logg_dwarf_giant": Fake(lambda x: (x[:, 1], x[:, 0]))}
    result = predict_partition(rows(class_code=[1, 0]), config, by_name)
    assert result["teff"].to_pylist() == [1.0, None]
    assert result["logg"].to_pylist() == [2.0, 2.0]
    assert result["quality_flags"].to_pylist() == [0, int(Flag.NO_MODEL_FOR_CLASS)]


def test_an_extrapolated_star_is_flagged_and_keeps_the_parameters_that_it_may_have():
    colours, classes, errors = [0.5, 0.5, 1.6, 1.6, 0.5, 0.5], [1, 1, 1, 1, 1, 2], [0.01, 0.01, 0.01, 0.01, 0.2, 0.01]
    stars = rows(g_0=[1.0, 9.0, 9.0, 1.0, 9.0, 9.0], g_r_0=colours, class_code=classes, g_err=errors)
    result = predict_partition(stars, CONFIG, predictors(known=5.0))
    assert result["teff"].to_pylist() == [1000, 9000, None, None, None, None]
    assert result["teff_err"].to_pylist() == [2, 2, None, None, None, None]
    beyond = Flag.BEYOND_COLOUR_LIMIT
    expected = [0, Flag.EXTRAPOLATED, beyond | Flag.EXTRAPOLATED, beyond]
    expected += [Flag.FAILED_CUT | Flag.EXTRAPOLATED, Flag.NO_MODEL_FOR_CLASS]
    assert result["quality_flags"].to_pylist() == [int(flag) for flag in expected]


def test_a_star_outside_of_the_sample_of_one_of_its_models_is_flagged():
    models = (ModelSpec(label="teff"), ModelSpec(label="logg"))
    config = PredictConfig(**{**CONFIG.__dict__, "models": models})
    result = predict_partition(rows(g_0=[1.0, 9.0]), config, {"teff": Fake(known=5.0), "logg": Fake()})
    assert result["quality_flags"].to_pylist() == [0, int(Flag.EXTRAPOLATED)]
    assert result["logg"].to_pylist() == [1.0, 9.0]


def test_a_model_gets_the_magnitudes_that_its_errors_depend_on():
    stars = rows(g_0=[1.0, None, 3.0], g_mag=[15.0, 16.0, None])
    result = predict_partition(stars, CONFIG, predictors(magnitude="g_mag"))
    assert result["teff_err95"].to_pylist() == [15.0, None, None]
    assert result["teff_err"].to_pylist() == [2.0, None, 2.0]


def test_a_magnitude_that_the_table_does_not_have_is_told():
    with pytest.raises(SchemaError, match=r"errors of a model depend.*model teff_dwarf.*g_0.*Needed: w1_0"):
        predict_partition(rows(), CONFIG, predictors(magnitude="w1_0"))


def test_a_model_gets_the_noise_that_its_errors_grow_with():
    stars = rows(g_0=[1.0, None, 3.0, 4.0], g_err=[0.01, 0.02, 0.03, 0.04], plx=[5.0, 5.0, 4.0, 2.0])
    result = predict_partition(stars, CONFIG, predictors(noise=("g_err", "plx_err/plx", "plx>4.5")))
    expected = [2.0 + 0.01 + 0.02 + 0.5, None, 2.0 + 0.03 + 0.025, 2.0 + 0.04 + 0.05]
    assert result["teff_err"].to_pylist() == [pytest.approx(value) if value else None for value in expected]


def test_a_noise_that_the_table_does_not_have_is_told():
    with pytest.raises(SchemaError, match=r"errors of a model depend.*model teff_dwarf.*Needed: w1_err"):
        predict_partition(rows(), CONFIG, predictors(noise=("w1_err/plx",)))


def test_a_model_without_calibration_gives_no_errors():
    plain = Fake(lambda x: (x[:, 0], np.full(len(x), np.nan)))
    result = predict_partition(rows(), CONFIG, {"teff_dwarf": plain, "teff_giant": plain})
    assert result["teff"].to_pylist() == [1.0]
    assert result["teff_err"].null_count == result["teff_err95"].null_count == 1


@pytest.mark.parametrize(
    "output, message",
    [
        (SagesOutput(columns={"ra": "ra"}, colour_limit=("g_q_0", 1.5)), "g_q_0"),
        (SagesOutput(columns={"teff": "ra"}), "names of predicted ones.*teff"),
        (SagesOutput(columns={"teff_err95": "ra"}), "names of predicted ones.*teff_err95"),
    ],
)
def test_a_wrong_output_is_told_before_any_work(output, message):
    config = PredictConfig(**{**CONFIG.__dict__, "output": output})
    with pytest.raises(SchemaError, match=message):
        output_schema(rows().schema, config)
