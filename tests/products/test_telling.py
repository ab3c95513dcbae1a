from __future__ import annotations

from stellarscale.products.telling import summary_text


def test_entries_are_lines_and_records_are_tables():
    text = summary_text({"rows_in": 12345, "done": True, "nothing": None, "items": [{"a_b": 1, "c": 0.12345}]})
    assert text.splitlines() == ["rows in  12,345", "done     yes", "nothing  -", "items:", "  a b  c", "  1    0.1235"]


def test_a_long_list_inside_of_a_line_is_told_by_its_ends():
    text = summary_text({"files": {"missing": [f"f{number}" for number in range(900)], "few": ["a"]}})
    assert text == "files  missing f0, f1, ... f899 (900 in all), few ['a']"
