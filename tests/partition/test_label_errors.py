"""Errors of labels by signal to noise."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from stellarscale.errors import SchemaError
from stellarscale.partition.label_errors import ErrorsConfig, add_errors
from stellarscale.schema import load_product


class Falling:
    """Errors that fall with the signal to noise."""

    def errors(self, snr):
        assert np.isfinite(snr).all()
        return np.stack([1000.0 / snr, 1.0 / snr, 2.0 / snr], axis=1)


ERRORS = ErrorsConfig(("teff", "logg", "m_h"), "snr_i", load_product("laspm"), (Falling(),))
LABELS = pa.table(
    {
        "teff": pa.array([3000.0, None, 3500.0], pa.float32()),
        "logg": [5.0, 4.9, 4.8],
        "m_h": [0.0, 0.1, 0.2],
        "snr_i": [10.0, 20.0, None],
    }
)


def test_errors_stand_behind_their_labels():
    table = add_errors(LABELS, ERRORS)
    assert table.column_names == ["teff", "teff_err", "logg", "logg_err", "m_h", "m_h_err", "snr_i"]
    assert table["teff_err"].to_pylist() == [100.0, None, None]
    assert table["logg_err"].to_pylist() == pytest.approx([0.1, 0.05, None])
    assert table.schema.field("teff_err").metadata[b"unit"] == b"K"
    assert add_errors(LABELS.slice(0, 0), ERRORS).schema.equals(table.schema)


def test_errors_that_do_not_fit_are_refused():
    with pytest.raises(SchemaError, match="Needed: snr_i"):
        add_errors(LABELS.drop(["snr_i"]), ERRORS)
    with pytest.raises(SchemaError, match="errors already"):
        add_errors(add_errors(LABELS, ERRORS), ERRORS)
    with pytest.raises(ValueError, match=r"shape \(2, 3\) for labels teff, logg"):
        add_errors(LABELS, replace(ERRORS, labels=("teff", "logg")))
    with pytest.raises(ValueError, match="1 models for 2 kinds"):
        add_errors(LABELS, replace(ERRORS, split=("logg", 3.5)))


def test_accuracy_is_added_in_quadrature_and_the_precision_kept():
    table = add_errors(LABELS, replace(ERRORS, accuracy=((75.0, 0.0, 0.0),)))
    assert table.column_names[:3] == ["teff", "teff_err", "teff_precision"]
    assert table["teff_err"].to_pylist() == [125.0, None, None]
    assert table["teff_precision"].to_pylist() == [100.0, None, None]
    assert table["m_h_err"].to_pylist() == table["m_h_precision"].to_pylist()


class Steady:
    """Errors that do not depend on the signal to noise."""

    def errors(self, snr):
        return np.full((len(snr), 3), 7.0)


def test_two_kinds_of_stars_have_errors_of_their_own():
    table = add_errors(LABELS, replace(ERRORS, models=(Steady(), Falling()), split=("m_h", 0.1)))
    assert table["logg_err"].to_pylist() == pytest.approx([7.0, 0.05, None])
