from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from stellarscale.config import Errors
from stellarscale.errors import SchemaError
from stellarscale.partition.noise import noise_columns, noise_values

TABLE = pa.table(
    {"u_err": [0.1, None, 0.3], "ebv": [0.02, 0.1, 0.2], "error": [1.0, 1.0, 1.0], "plx": [2.0, 0.0, -4.0]}
)


def test_columns_ratios_and_excesses():
    found = noise_values(TABLE, ("u_err", "error/plx", "ebv>0.05"))
    expected = [[0.1, 0.5, 0.0], [np.nan, np.nan, 0.05], [0.3, -0.25, 0.15]]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_no_noise_has_no_columns():
    assert noise_values(TABLE, ()).shape == (3, 0)
    assert noise_values(TABLE.slice(0, 0), ("ebv",)).shape == (0, 1)


def test_columns_to_read_come_once_each():
    assert noise_columns(("error/plx", "plx", "ebv>0.05", "ebv")) == ("error", "plx", "ebv")


def test_a_missing_column_is_told():
    with pytest.raises(SchemaError, match=r"training\.errors\.noise.*Needed: j_err"):
        noise_values(TABLE, ("ebv", "j_err/plx"))


@pytest.mark.parametrize("name", ["a/b/c", "a>", ">0.1", "a - b", "a<1", ""])
def test_a_name_that_is_no_noise_is_refused(name):
    with pytest.raises(ValidationError, match="noise"):
        Errors(noise=(name,))
