from __future__ import annotations

from pathlib import Path

import pytest

from stellarscale.flags import DESCRIPTIONS, Flag, decode, flag_table


def test_every_flag_has_one_bit_and_a_description():
    rows = flag_table()
    assert [row.name for row in rows] == [flag.name for flag in Flag]
    assert len({row.bit for row in rows}) == len(rows)
    assert set(DESCRIPTIONS) == set(Flag)


def test_decode_names_the_bits():
    assert decode(0) == []
    assert decode(int(Flag.UPPER_LIMIT | Flag.FAILED_CUT)) == ["UPPER_LIMIT", "FAILED_CUT"]


@pytest.mark.parametrize("value", [-1, 1 << 30])
def test_unknown_bits_are_an_error(value):
    with pytest.raises(ValueError, match="does not know"):
        decode(value)


def test_the_readme_has_this_very_table():
    text = (Path(__file__).resolve().parents[1] / "README.md").read_text()
    for row in flag_table():
        assert f"| {row.bit} | {row.name} | {row.description} |" in text
