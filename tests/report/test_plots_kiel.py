"""Kiel diagrams coloured by metallicity: panels, colours, isochrones and where their lines break."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.collections import PathCollection

from stellarscale.report.plots_kiel import IsochroneLine, KielStars, isochrone_lines, plot_kiel_metals
from stellarscale.report.plots_style import MANY, png

PNG = b"\x89PNG\r\n\x1a\n"


def stars(n=400, title="all", logg_range=None):
    rng = np.random.default_rng(5)
    teff = rng.uniform(3100, 4100, n)
    logg = np.where(rng.random(n) < 0.3, (teff - 3300) / 500, 5.0 - (teff - 3100) / 2000)
    return KielStars(title, teff, logg, rng.uniform(-1, 0.4, n), logg_range)


def panels_of(drawn):
    return [axes for axes in drawn.axes if axes.get_title(loc="left")]


def test_axes_run_as_usual_and_panels_share_them():
    drawn = plot_kiel_metals([stars(), stars(50, "few")])
    first, second = panels_of(drawn)
    assert first.get_xlim()[0] > first.get_xlim()[1]
    assert first.get_ylim()[0] > first.get_ylim()[1]
    assert first.get_xlim() == second.get_xlim()
    assert first.get_ylim() == second.get_ylim()
    assert first.get_title(loc="left") == "all (400)"
    assert png(drawn).startswith(PNG)


def test_both_branches_are_inside_and_a_range_shows_one_closely():
    whole = stars()
    drawn = plot_kiel_metals([whole, KielStars("dwarfs", whole.teff, whole.logg, whole.m_h, (4.0, np.inf))])
    first, close = panels_of(drawn)
    low, high = sorted(first.get_ylim())
    assert low < whole.logg.min()
    assert high > whole.logg.max()
    low, high = sorted(close.get_ylim())
    assert low > 4.0
    assert high < 5.5


def test_few_stars_are_points_and_many_are_cells_on_the_same_scale():
    drawn = plot_kiel_metals([stars(400), stars(MANY + 1, "many")])
    first, second = panels_of(drawn)
    points = [each for each in first.collections if isinstance(each, PathCollection)]
    assert len(points) == 1
    assert len(points[0].get_offsets()) == 400
    assert not first.images
    assert len(second.images) == 1
    assert points[0].get_clim() == second.images[0].get_clim()


def test_cells_hold_medians_of_the_metallicity():
    n = MANY + 1000
    teff, logg = np.tile([3200.0, 4000.0], n // 2), np.tile([4.9, 1.0], n // 2)
    drawn = plot_kiel_metals([KielStars("two", teff, logg, np.tile([-0.8, 0.2], n // 2))])
    values = np.ma.filled(panels_of(drawn)[0].images[0].get_array(), np.nan)
    assert np.unique(values[np.isfinite(values)]).tolist() == pytest.approx([-0.8, 0.2])


def test_missing_values_and_empty_panels_are_said():
    whole = stars(20)
    whole.m_h[:5] = np.nan
    nothing = KielStars("none", np.full(3, np.nan), np.zeros(3), np.zeros(3))
    drawn = plot_kiel_metals([whole, nothing])
    first, second = panels_of(drawn)
    assert first.get_title(loc="left") == "all (15)"
    assert any("no star" in text.get_text() for text in second.texts)
    assert png(plot_kiel_metals([nothing])).startswith(PNG)


def test_isochrones_are_drawn_on_every_panel_in_the_colours_of_the_stars():
    line = IsochroneLine(-0.5, np.array([3200.0, 3600.0]), np.array([4.9, 4.7]))
    other = IsochroneLine(0.0, np.array([3200.0, 3600.0]), np.array([4.8, 4.6]))
    drawn = plot_kiel_metals([stars(), stars(30, "few")], [line, other])
    first, second = panels_of(drawn)
    assert len(first.lines) == len(second.lines) == 2
    assert first.lines[0].get_color() != first.lines[1].get_color()
    assert first.lines[0].get_color() == second.lines[0].get_color()
    assert [text.get_text() for text in drawn.legends[0].get_texts()] == ["−0.5", "0"]


def test_isochrones_are_one_line_per_metallicity_without_missing_points():
    teff, logg = np.tile(np.linspace(3000, 4000, 11), 2), np.tile(np.linspace(5, 4.5, 11), 2)
    m_h = np.repeat([0.0, -0.5], 11)
    teff[3] = np.nan
    lines = isochrone_lines(teff, logg, m_h)
    assert [line.m_h for line in lines] == [-0.5, 0.0]
    assert len(lines[0].teff) == 11
    assert len(lines[1].teff) == 10
    assert all(np.isfinite(line.teff).all() for line in lines)


def test_an_isochrone_breaks_where_another_sequence_begins():
    up = np.linspace(0, 1, 40)
    teff = np.concatenate([3000 + 1000 * up, 3050 + 1000 * up])
    logg = np.concatenate([5 - 4 * up, 5 - 4 * up])
    (line,) = isochrone_lines(teff, logg, np.zeros(80))
    assert np.flatnonzero(np.isnan(line.teff)).tolist() == [40]
    assert np.isnan(line.logg[40])
    assert np.isfinite(np.delete(line.logg, 40)).all()
    assert isochrone_lines(np.array([np.nan]), np.zeros(1), np.zeros(1)) == ()
