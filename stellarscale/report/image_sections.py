"""The sections that a report on images has of its own: from arrays to HTML and figures (paper III)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stellarscale.report.content import Evaluation, ExtraSection
from stellarscale.report.image_numbers import galactocentric
from stellarscale.report.labels import in_plot, several, short
from stellarscale.report.numbers import summarise
from stellarscale.report.plots_image_maps import plot_galaxy, plot_kiel_bins
from stellarscale.report.plots_image_stars import SPLITS, GalleryStar, plot_gallery, plot_parallaxes, plot_splits
from stellarscale.report.plots_images import (
    TrainingCurve,
    Uncertainty,
    plot_label_panels,
    plot_training_curves,
    plot_uncertainties,
)
from stellarscale.report.tables_images import (
    GROUPS,
    LABELS,
    comparison_rows,
    early_look_table,
    failure_table,
    groups_in,
    search_table,
    table_rows,
)

STARS_PER_FIGURE = 6
_COLOURS = "the colours of the metallicity hold the inner 98 % of the bins, and none below −2 has its own"


def comparison_section(records: Sequence[Mapping[str, Any]]) -> ExtraSection | None:
    """Networks beside other methods, a table for each group of stars (paper III, Tables 1 and 2); None without any."""
    if not records:
        return None
    html = [
        "<p>Every method learns from the same stars as the networks and is scored on the same held-out ones. ACF: the "
        "network with parallax; ACPF: without. mag: dereddened magnitudes, absolute ones where the parallax is used; "
        "color: dereddened colours; image: principal components of the network's image features. With parallax, the "
        "parallax and its error are inputs besides. Hyper-parameters are searched on training stars alone.</p>"
    ]
    groups = groups_in(records)
    for group in groups:
        title = GROUPS.get(group, f"{group} stars")
        html += [f"<h3>{escape(title)}</h3>", comparison_rows(records, group)]
        others = [comparison_rows(records, group, figure) for figure in ("std", "bias")]
        html += ["<details><summary>Standard deviation and bias</summary>", *others, "</details>"]
    html += [failure_table(records), search_table(records)]
    numbers = {"records": list(records), "tables": {group: table_rows(records, group) for group in groups}}
    return ExtraSection("image_methods", "Networks beside other methods", "\n".join(html), (), numbers)


def residual_section(evaluations: Mapping[str, Sequence[Evaluation]]) -> ExtraSection | None:
    """Estimates against labels, a figure per set such as ``ACF`` and ``ACPF`` (paper III, Figs 8, 10, 13).

    Parameters
    ----------
    evaluations : mapping of str to sequence of Evaluation
        Title of the figure: one evaluation for each label.
    """
    shown = {title: list(each) for title, each in evaluations.items() if each}
    if not shown:
        return None
    figures = []
    for title, each in shown.items():
        told = "; ".join(
            f"{LABELS.get(one.label, one.label)}: robust σ {short(summarise(one).robust_sigma)} {one.unit}".rstrip()
            for one in each
        )
        figures.append((plot_label_panels(each), f"{title}: estimates against labels", f"{title}. {told}."))
    html = (
        "<p>Stars that trained no network. Above: estimate against label with the one-to-one line; below: estimate − "
        "label and its density. Colour: density of the stars relative to its peak.</p>"
    )
    numbers = {title: {one.label: asdict(summarise(one)) for one in each} for title, each in shown.items()}
    return ExtraSection("image_residuals", "Residuals of the networks", html, tuple(figures), numbers)


def uncertainty_section(uncertainties: Mapping[str, Sequence[Uncertainty]]) -> ExtraSection | None:
    """Uncertainty against each parameter (paper III, Fig. 9).

    Parameters
    ----------
    uncertainties : mapping of str to sequence of Uncertainty
        What the uncertainty is, such as ``standard deviation of the samples``: one for each parameter.
    """
    shown = {title: list(each) for title, each in uncertainties.items() if each}
    if not shown:
        return None
    html = (
        "<p>Lines: second-order polynomials through all stars. The band holds the mean uncertainty at a value with "
        "95 % probability, so many stars make it narrow.</p>"
    )
    figures = [
        (plot_uncertainties(each, "uncertainty"), f"{title} by parameter", title) for title, each in shown.items()
    ]
    numbers = {title: {one.label: _spread(one) for one in each} for title, each in shown.items()}
    return ExtraSection("image_uncertainty", "Uncertainty against parameter", html, tuple(figures), numbers)


def training_section(
    curves: Sequence[TrainingCurve], early_looks: Mapping[str, Mapping[str, Any]]
) -> ExtraSection | None:
    """Loss by epoch of each network, and the residuals of the early looks.

    Parameters
    ----------
    curves : sequence of TrainingCurve
    early_looks : mapping of str to mapping
        Network: ``epoch`` and ``labels``, as ``<name>_early_look.json`` has them.
    """
    if not curves:
        return None
    html = "<p>Smooth L1 loss of standardised labels, by epoch; training stars with dropout.</p>"
    if early_looks:
        html += "<h3>Early look</h3>" + early_look_table(early_looks)
    figures = [(plot_training_curves(curves), "Loss by epoch", "Loss of training and validation stars.")]
    numbers = {
        each.name: {
            "epochs": len(each.training),
            "training": _last(each.training),
            "validation": _last(each.validation),
        }
        for each in curves
    }
    about = {"curves": numbers, "early_looks": {name: dict(look) for name, look in early_looks.items()}}
    return ExtraSection("image_training", "Training of the networks", html, tuple(figures), about)


def sample_section(
    labels: Mapping[str, NDArray], parallax_mas: NDArray, split: NDArray[np.integer], units: Mapping[str, str]
) -> ExtraSection:
    """Stars that the networks learn from: labels and parallaxes of the splits (paper III, Figs 1 and 6).

    Parameters
    ----------
    labels : mapping of str to ndarray, shape (n,)
        NaN where unknown.
    parallax_mas : ndarray, shape (n,)
    split : ndarray of int, shape (n,)
        0 training, 1 validation, 2 test.
    units : mapping of str to str
        Of the labels.
    """
    counts = {part: int((split == number).sum()) for number, part in enumerate(SPLITS)}
    html = f"<p>{several(len(split), 'star')}: " + ", ".join(f"{n:,} {part}" for part, n in counts.items()) + ".</p>"
    figures = (
        (
            plot_splits(labels, split, units),
            "Labels of the splits",
            "Labels of the training, validation and test stars.",
        ),
        (plot_parallaxes(parallax_mas, split), "Parallaxes of the splits", "Parallaxes of the same stars."),
    )
    return ExtraSection("image_sample", "Stars of the networks", html, figures, counts)


def map_section(
    stars: Mapping[str, NDArray], l_deg: NDArray, b_deg: NDArray, parallax_mas: NDArray
) -> ExtraSection | None:
    """Kiel diagram in fine bins and the Galaxy's metallicity (paper III, Figs 15 and 16); None without [Fe/H].

    Parameters
    ----------
    stars : mapping of str to ndarray, shape (n,)
        ``teff`` (K), ``logg`` and ``fe_h`` (dex), as far as there are any; NaN where unknown.
    l_deg, b_deg, parallax_mas : ndarray, shape (n,)
        Galactic position and parallax; distance is 1 / parallax.
    """
    if "fe_h" not in stars:
        return None
    figures = []
    if {"teff", "logg"} <= set(stars):
        caption = f"Bins of 25 K and 0.04 dex; {_COLOURS}."
        drawn = plot_kiel_bins(stars["teff"], stars["logg"], stars["fe_h"])
        figures.append((drawn, "Kiel diagram: density and median metallicity", caption))
    radius, height = galactocentric(l_deg, b_deg, parallax_mas)
    caption = f"Bins of 0.2 × 0.15 kpc; distances are 1 / parallax, ⊙ the Sun; {_COLOURS}."
    figures.append((plot_galaxy(radius, height, stars["fe_h"]), "Median metallicity by R and z", caption))
    known = int((np.isfinite(radius) & np.isfinite(stars["fe_h"])).sum())
    return ExtraSection("image_maps", "Maps of the catalogue", "", tuple(figures), {"stars": known})


def gallery_section(stars: Sequence[GalleryStar], bands: Sequence[str]) -> ExtraSection | None:
    """Stamps of some stars with their parameters; None without any."""
    if not stars:
        return None
    html = (
        "<p>Each picture is stretched as the network sees it, from its 2nd to its 99.7th percentile. Orange: pixels "
        "that no detection covers.</p>"
    )
    figures = []
    for start in range(0, len(stars), STARS_PER_FIGURE):
        part = stars[start : start + STARS_PER_FIGURE]
        names = ", ".join(star.title for star in part)
        figures.append((plot_gallery(part, bands), f"Stamps of {names}", f"Bands {' '.join(bands)}."))
    rows = [{"star": star.title, "flags": list(star.flags)} for star in stars]
    return ExtraSection("image_gallery", "Gallery", html, tuple(figures), rows)


def value_line(label: str, unit: str, value: float, error: float | None, reference: float | None = None) -> str:
    """A parameter of a star for the gallery: ``Teff 5,012 ± 85 K (label 5,100)``; may hold formulas."""
    if not np.isfinite(value):
        return f"{in_plot(label)} unknown"
    decimals = 0 if unit == "K" else 2
    told = [f"{value:,.{decimals}f}"]
    if error is not None and np.isfinite(error):
        told.append(f"± {error:,.{decimals}f}")
    if unit:
        told.append(unit)
    if reference is not None and np.isfinite(reference):
        told.append(f"(label {reference:,.{decimals}f})")
    return f"{in_plot(label)} " + " ".join(told).replace("-", "−")


def _spread(one: Uncertainty) -> dict[str, float | int | None]:
    known = one.uncertainty[np.isfinite(one.uncertainty)]
    low, median, high = np.percentile(known, [5, 50, 95]).tolist() if len(known) else (None, None, None)
    return {"n": len(known), "percentile_5": low, "median": median, "percentile_95": high}


def _last(values: NDArray[np.float64]) -> float | None:
    return float(values[-1]) if len(values) and np.isfinite(values[-1]) else None
