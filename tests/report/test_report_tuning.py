"""The scan of hyper-parameters on the page: two panels, and a table that states choice and setting."""

from __future__ import annotations

import dataclasses
import json

import pytest

from stellarscale.report.plots_style import png
from stellarscale.report.plots_tuning import plot_tuning
from stellarscale.report.tuning import DepthScore, TreeScore, TuningScan, tuning_section, tuning_table

SCAN = TuningScan(
    model="fe_h_dwarf",
    stars=50_000,
    trees=tuple(
        TreeScore(n, share, 0.2 + 1 / n + (share is None) * 0.01, n / 10) for share in (0.5, None) for n in (50, 300)
    ),
    depths=tuple(
        DepthScore(depth, repeat, 0.3 - 0.01 * depth + 0.001 * repeat, 1.0) for depth in (5, 17) for repeat in (0, 1)
    ),
    chosen={"n_estimators": 300, "max_features": 0.5, "max_depth": 17},
    used={"n_estimators": 300, "max_features": None, "max_depth": 13},
)


def test_each_share_is_a_line_and_repeats_and_their_mean_are_drawn():
    left, right = plot_tuning(SCAN).axes
    shown = [text.get_text() for text in left.get_legend().get_texts()]
    assert shown == ["0.50 of the features", "all features"]
    assert left.get_xscale() == "log"
    mean = next(line for line in right.lines if line.get_linestyle() == "--")
    assert list(mean.get_xdata()) == [5, 17]
    assert list(mean.get_ydata()) == pytest.approx([0.2505, 0.1305])
    assert sum(line.get_alpha() == 0.4 for line in right.lines) == 2


def test_choice_and_setting_are_marked_where_the_scan_covers_them():
    left, right = plot_tuning(SCAN).axes
    assert [(line.get_marker(), *line.get_xdata(), *line.get_ydata()) for line in left.lines[2:]] == [
        ("*", 300, pytest.approx(0.2 + 1 / 300)),
        ("o", 300, pytest.approx(0.21 + 1 / 300)),
    ]
    assert [line.get_marker() for line in right.lines if line.get_marker() in "*"] == ["*"]
    assert "the job's setting" not in [text.get_text() for text in right.get_legend().get_texts()], "13 was not tried"


def test_the_same_scan_gives_the_same_picture():
    assert png(plot_tuning(SCAN), 60) == png(plot_tuning(SCAN), 60)


def test_the_table_states_both():
    html = tuning_table([SCAN])
    assert html.index("the scan's choice") < html.index("the job's")
    for text in ("fe_h_dwarf", "50,000", "0.2033", "0.2133", "0.1305"):
        assert text in html


def test_a_scan_survives_json_and_makes_a_section():
    again = TuningScan.from_json(json.loads(json.dumps(SCAN.to_json())))
    assert again == dataclasses.replace(SCAN)
    section = tuning_section([again])
    assert [alternative for _, alternative, _ in section.figures] == [
        "fe_h_dwarf: out-of-bag error over trees, features and depth"
    ]
    json.dumps(section.numbers, allow_nan=False)
