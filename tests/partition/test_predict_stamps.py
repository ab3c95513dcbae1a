"""Tables of stamps to tables of parameters: flags, nulls, errors, schema."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest
from reference.tiny_networks import LAYOUT, stamp_table

from stellarscale.errors import ConfigError, ModelError, SchemaError
from stellarscale.flags import Flag
from stellarscale.partition.image_predict import PredictStampsConfig, needed_columns, output_schema, predict_stamps
from stellarscale.schema import load_product

CONFIG = PredictStampsConfig(
    labels=("teff", "logg"),
    columns={"id": "object_id", "ra": "ra", "plx": "gaia_parallax"},
    parallax="gaia_parallax",
    parallax_error="gaia_parallax_error",
    limits={"teff": (4000.0, 8000.0), "logg": (1.0, None), "fe_h": (-1.0, None)},
    product=load_product("acf"),
)
PREDICTED = ["teff", "teff_std", "teff_err", "teff_err95", "logg", "logg_std", "logg_err", "logg_err95"]


@dataclass
class Fake:
    """Networks that read the labels off the parallax: log g is it, Teff its thousandfold; deviations 0.1 and 100."""

    labels: tuple[str, ...] = ("logg", "teff")
    needs_parallax: bool = True
    seen: list = field(default_factory=list)

    def check_stamps(self, layout):
        if layout != LAYOUT:
            raise ModelError("the stamps are not of the kind")

    def knows(self, parallax, error):
        return (np.isfinite(parallax) & (error > 0)) | (not self.needs_parallax)

    def estimate(self, stamps, parallax, error):
        self.seen.append((stamps, parallax, error))
        assert np.isfinite(parallax).all() or not self.needs_parallax
        value = np.where(np.isnan(stamps).all(axis=(2, 3)).any(axis=1), np.nan, parallax)
        mean = np.column_stack([value, 1000 * value])
        return mean, np.where(np.isnan(mean), np.nan, [0.1, 100.0])


@dataclass(frozen=True)
class FakeErrors:
    """Errors that are the spread plus magnitude and noise."""

    magnitude: str | None = None
    noise: tuple[str, ...] = ()

    def apply(self, prediction, spread, magnitude, noise=None):
        assert (magnitude is None) == (self.magnitude is None)
        err = spread + (0 if magnitude is None else magnitude) + noise.sum(axis=1) + 0 * prediction
        return err, 2 * err


@dataclass(frozen=True)
class FakeRegion:
    """A region that ends at a parallax; it looks at nothing else, but wants two numbers a band."""

    most: float

    def is_novel(self, summary, parallax, error):
        assert summary.shape == (len(parallax), 2 * len(LAYOUT.bands))
        return parallax > self.most


def rows(n=6, *, null=(), **columns):
    table = stamp_table(n, null=null)
    for name, values in columns.items():
        index = table.schema.get_field_index(name)
        kept = table.schema.field(index)
        table = table.set_column(index, kept, pa.array(values, kept.type, from_pandas=True))
    return table


def test_parameters_and_columns_of_the_catalogue():
    table = rows(3, gaia_parallax=[4.1, 5.0, 6.3])
    result = predict_stamps(table, CONFIG, Fake())
    assert result.column_names == ["_healpix_29", "id", "ra", "plx", *PREDICTED, "quality_flags"]
    assert result["teff"].to_pylist() == pytest.approx([4100, 5000, 6300])
    assert result["logg"].to_pylist() == pytest.approx([4.1, 5.0, 6.3])
    assert result["teff_std"].to_pylist() == [100, 100, 100]
    assert result["logg_std"].to_pylist() == pytest.approx([0.1] * 3)
    assert result["id"].to_pylist() == table["object_id"].to_pylist()
    assert result["quality_flags"].to_pylist() == [0, 0, 0]
    assert result["teff_err"].null_count == result["logg_err95"].null_count == 3, "nothing is calibrated"


def test_stars_that_get_no_parameters_say_why():
    table = rows(6, null=[1], gaia_parallax=[4.5, 4.5, np.nan, 4.5, 4.5, 4.5])
    table = rows_with(table, "gaia_parallax_error", [0.1, 0.1, 0.1, 0.0, 0.1, 0.1])
    table = rows_with(table, "quality_flags", [0, 0, 0, 0, int(Flag.INCOMPLETE_BANDS | Flag.SATURATED), 0])
    fake = Fake()
    result = predict_stamps(table, CONFIG, fake)
    lacking = [name for name in PREDICTED if "_err" not in name]
    for name in lacking:
        assert [value is None for value in result[name].to_pylist()] == [False, True, True, True, True, False], name
    assert result["quality_flags"].to_pylist() == [
        0,
        int(Flag.INCOMPLETE_BANDS),
        int(Flag.MISSING_FEATURE),
        int(Flag.MISSING_FEATURE),
        int(Flag.INCOMPLETE_BANDS | Flag.SATURATED),
        0,
    ]
    assert result.num_rows == 6
    assert len(fake.seen[0][0]) == 2, "only stars that may have parameters are computed"


def rows_with(table, name, values):
    index = table.schema.get_field_index(name)
    kept = table.schema.field(index)
    return table.set_column(index, kept, pa.array(values, kept.type, from_pandas=True))


def test_a_band_without_a_pixel_is_flagged_even_if_nobody_did_before():
    from stellarscale.stamp_columns import binary_array, stamps_of

    table = rows(3, gaia_parallax=[4.5, 4.5, 4.5])
    stamps = stamps_of(table).copy()
    stamps[1, 0] = np.nan
    index = table.schema.get_field_index("stamp")
    table = table.set_column(index, table.schema.field(index), binary_array(stamps, table.schema.field(index).type))
    result = predict_stamps(table, CONFIG, Fake())
    assert [value is None for value in result["teff"].to_pylist()] == [False, True, False]
    assert result["quality_flags"].to_pylist() == [0, int(Flag.INCOMPLETE_BANDS), 0]


def test_a_whole_stamp_without_a_result_is_not_blamed_on_its_bands():
    class Overflows(Fake):
        def estimate(self, stamps, parallax, error):
            mean, std = super().estimate(stamps, parallax, error)
            mean[parallax > 1e30] = np.nan
            return mean, std

    table = rows(4, null=[3], gaia_parallax=[4.5, 1e31, 4.5, 4.5])
    result = predict_stamps(table, CONFIG, Overflows())
    assert [value is None for value in result["teff"].to_pylist()] == [False, True, False, True]
    assert result["quality_flags"].to_pylist() == [0, int(Flag.EXTRAPOLATED), 0, int(Flag.INCOMPLETE_BANDS)]


def test_without_a_need_for_parallaxes_none_is_missed():
    table = rows(2, gaia_parallax=[np.nan, 4.5])
    result = predict_stamps(table, CONFIG, Fake(needs_parallax=False))
    assert result["quality_flags"][1].as_py() == 0
    assert result["quality_flags"][0].as_py() & Flag.MISSING_FEATURE == 0


def test_parameters_beyond_their_limits_are_flagged_and_kept():
    table = rows(5, gaia_parallax=[3.9, 4.0, 8.0, 8.1, 0.9])
    result = predict_stamps(table, CONFIG, Fake())
    teff, logg = int(Flag.OUTSIDE_TEFF_RANGE), int(Flag.OUTSIDE_LOGG_RANGE)
    assert result["quality_flags"].to_pylist() == [teff, 0, 0, teff, teff | logg]
    assert result["teff"].null_count == 0
    free = predict_stamps(table, replace(CONFIG, limits={}), Fake())
    assert free["quality_flags"].to_pylist() == [0] * 5


def test_stars_outside_of_the_region_of_some_network_are_flagged_and_keep_their_parameters():
    table = rows(6, null=[1], gaia_parallax=[5.0, 7.0, 6.5, 7.5, 9.0, np.nan])
    config = replace(CONFIG, regions=(FakeRegion(7.0), FakeRegion(6.0)))
    result = predict_stamps(table, config, Fake())
    outside, beyond = int(Flag.EXTRAPOLATED), int(Flag.OUTSIDE_TEFF_RANGE)
    expected = [0, int(Flag.INCOMPLETE_BANDS), outside, outside, outside | beyond, int(Flag.MISSING_FEATURE)]
    assert result["quality_flags"].to_pylist() == expected
    assert result["teff"].to_pylist()[2:5] == pytest.approx([6500, 7500, 9000])
    one = predict_stamps(table, replace(CONFIG, regions=(FakeRegion(7.0),)), Fake())
    assert one["quality_flags"].to_pylist()[2:4] == [0, outside]
    assert predict_stamps(table.slice(0, 0), config, Fake()).num_rows == 0


def test_calibrated_errors_come_from_spread_magnitude_and_noise():
    errors = {"teff": FakeErrors(), "logg": FakeErrors("g_mag", ("g_mag_err", "gaia_parallax_error/gaia_parallax"))}
    table = rows(3, gaia_parallax=[4.5, 5.0, 5.5], g_mag=[14, 15, 16], g_mag_err=[0.5, np.nan, 0.25])
    table = rows_with(table, "gaia_parallax_error", [0.45, 0.5, 0.55])
    config = replace(CONFIG, errors=errors)
    result = predict_stamps(table, config, Fake())
    assert result["teff_err"].to_pylist() == [100, 100, 100]
    assert result["teff_err95"].to_pylist() == [200, 200, 200]
    assert result["logg_err"].to_pylist()[::2] == pytest.approx([0.1 + 14 + 0.5 + 0.1, 0.1 + 16 + 0.25 + 0.1])
    assert result["logg_err"].to_pylist()[1] is None, "a noise is missing"
    assert result["logg"].null_count == 0
    needed = needed_columns(table.schema, config)
    assert {"g_mag", "g_mag_err", "gaia_parallax_error", "gaia_parallax", "stamp", "quality_flags"} <= set(needed)
    assert "stamp_coverage" not in needed
    assert len(needed) == len(set(needed))
    assert predict_stamps(table.select(["_healpix_29", *needed]), config, Fake()) == result


def test_the_schema_is_declared_and_holds_for_no_rows():
    table = rows(2)
    schema = output_schema(table.schema, CONFIG)
    assert predict_stamps(table, CONFIG, Fake()).schema == schema
    assert predict_stamps(table.slice(0, 0), CONFIG, Fake()).schema == schema
    assert schema.field("teff_std").metadata[b"unit"] == b"K"
    assert schema.field("logg_err").metadata[b"ucd"] == b"stat.error;phys.gravity"
    assert "stamp" not in schema.names


def test_a_table_without_flags_gets_them():
    table = rows(2, gaia_parallax=[4.5, 0.5]).drop_columns(["quality_flags"])
    result = predict_stamps(table, CONFIG, Fake())
    assert result["quality_flags"].to_pylist() == [0, int(Flag.OUTSIDE_TEFF_RANGE | Flag.OUTSIDE_LOGG_RANGE)]


def test_what_does_not_fit_is_told():
    table = rows(2)
    lacking = table.drop_columns(["gaia_parallax"]).schema
    with pytest.raises(SchemaError, match=r"lacks columns.*Needed: gaia_parallax, nothing"):
        output_schema(lacking, replace(CONFIG, columns={"id": "nothing"}))
    with pytest.raises(SchemaError, match="names of predicted ones"):
        output_schema(table.schema, replace(CONFIG, columns={"teff_std": "ra"}))
    with pytest.raises(SchemaError, match="does not describe a predicted column"):
        output_schema(table.schema, replace(CONFIG, labels=("teff", "m_h")))
    described = CONFIG.product.model_copy(
        update={"columns": {f"m_h{e}": CONFIG.product.columns["teff"] for e in ("", "_std", "_err", "_err95")}}
        | {"name": "x"}
    )
    described = described.model_copy(update={"columns": {**described.columns, **CONFIG.product.columns}})
    with pytest.raises(ConfigError, match="no flag for the limits"):
        output_schema(table.schema, replace(CONFIG, labels=("m_h",), limits={"m_h": (0, 1)}, product=described))
    with pytest.raises(ModelError, match="not of the kind"):
        predict_stamps(stamp_table(2, layout=replace(LAYOUT, softening=(1.0,) * 3)), CONFIG, Fake())
