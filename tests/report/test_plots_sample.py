from __future__ import annotations

import numpy as np
import pytest

from stellarscale.kernels.cmd import colour_bins, fit_branch
from stellarscale.kernels.label_transfer import label_offset
from stellarscale.report.plots_sample import DiagramOfBranch, plot_branches, plot_offsets
from stellarscale.report.plots_style import png

PNG = b"\x89PNG\r\n\x1a\n"


def diagram(n, *, name="dwarf", degree=1, colour_range=None, magnitude_range=(7.0, 12.0)):
    rng = np.random.default_rng(n)
    colour = rng.normal(2.4, 0.4, n)
    magnitude = 2.0 + 2.8 * colour + rng.normal(0, 0.4, n)
    near = (magnitude >= 7) & (magnitude <= 12)
    bins = colour_bins(colour[near], magnitude[near], width=0.5, min_count=max(n // 100, 2))
    branch = fit_branch(bins, degree=degree, half_width=0.8)
    return DiagramOfBranch(name, colour, magnitude, branch, colour_range, magnitude_range)


def offsets(n, seed=0):
    rng = np.random.default_rng(seed)
    shifts = ((87.0, 60.0), (-0.05, 0.07), (-0.02, 0.08))
    return [label_offset(rng.normal(mean, sigma, n), np.zeros(n)) for mean, sigma in shifts]


@pytest.mark.parametrize("n", [60, 1500, 30_000])
def test_branches_are_drawn_with_bright_stars_above(n):
    drawn = plot_branches([diagram(n), diagram(n, name="giant", degree=2, colour_range=(1.9, 3.0))])
    for axes in (drawn.axes[0], drawn.axes[1]):
        assert axes.yaxis_inverted()
        assert axes.get_xlabel().endswith("(mag)")
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert "selected (± 0.800 mag)" in labels
        assert "fit" in labels
    assert png(drawn, 40).startswith(PNG)


def test_the_title_counts_the_stars_in_the_region():
    shown = diagram(4000, colour_range=(2.0, 2.9))
    inside = (np.abs(shown.magnitude - 2.0 - 2.8 * shown.colour) < 0.8) & (np.abs(shown.colour - 2.45) < 0.45)
    title = plot_branches([shown]).axes[0].get_title(loc="left")
    assert title.endswith("of 4,000 stars selected")
    number = int(title.removeprefix("dwarf: ").split(" ")[0].replace(",", ""))
    assert number == pytest.approx(np.count_nonzero(inside), rel=0.03)


def test_the_region_keeps_to_the_ranges():
    axes = plot_branches([diagram(3000, colour_range=(2.0, 2.9))]).axes[0]
    region = next(item for item in axes.get_lines() if str(item.get_label()).startswith("selected"))
    x, y = region.get_data()
    assert (x.min(), x.max()) == (2.0, 2.9)
    assert y.min() >= 7.0
    assert y.max() <= 12.0
    assert (x[0], y[0]) == (x[-1], y[-1])


def test_offsets_are_drawn_a_row_per_catalogue():
    drawn = plot_offsets("dwarf", "StarHorse", [("ASPCAP", offsets(4000)), ("Ding22", offsets(700, 1))])
    assert len(drawn.axes) == 6
    texts = [text.get_text() for text in drawn.axes[0].texts]
    assert any("n = 4,000" in text and "added −8" in text for text in texts)
    assert any(text.startswith("μ 8") for text in texts)
    assert drawn.axes[3].get_title(loc="left") == "Ding22, branch dwarf"
    assert png(drawn, 40).startswith(PNG)


def test_few_stars_given_offsets_and_no_overlap_are_said():
    given = [label_offset(np.array([1.0, 2.0]), np.zeros(2), given=0.5) for _ in range(2)]
    lonely = label_offset(np.array([np.nan]), np.zeros(1), given=-87.0)
    drawn = plot_offsets("giant", "StarHorse", [("few", [*given, lonely])])
    said = " ".join(text.get_text() for axes in drawn.axes for text in axes.texts)
    assert "no Gaussian fitted" in said
    assert "added 0.5 K, as given" in said
    assert "no star in common; −87.000 dex added, as given" in said
    assert png(drawn, 40).startswith(PNG)


def test_nothing_to_draw_is_said():
    assert plot_branches([]).axes[0].texts[0].get_text() == "no branch was fitted"
    assert plot_offsets("dwarf", "x", []).axes[0].texts[0].get_text() == "no catalogue was compared"
