"""The sections of the page about the evaluation: accuracy, errors, other catalogues, clusters, samples."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stellarscale.report.content import Evaluation, ExtraSection, ReportContent
from stellarscale.report.coverage import SNR, coverage_rows, novelty_row
from stellarscale.report.labels import model_in_text, several, short
from stellarscale.report.numbers import cluster_row, pairs, summarise
from stellarscale.report.pieces import nothing, picture
from stellarscale.report.plots_clusters import plot_cluster
from stellarscale.report.plots_coverage import has_coverage, plot_coverage
from stellarscale.report.plots_models import has_trend, plot_trends
from stellarscale.report.plots_residuals import describe, plot_residuals
from stellarscale.report.plots_samples import plot_class_histograms, plot_sample
from stellarscale.report.tables import comparison_table, evaluation_table
from stellarscale.report.tables_evaluation import (
    class_table,
    cluster_table,
    coverage_table,
    novelty_table,
    sample_table,
)

PANELS = (
    "<p>Left: estimate against reference. Middle: residuals (predicted − true) with the fitted Gaussian. "
    "Right: residuals against the reference, with their median and robust σ in bins.</p>"
)

OURS_ALONE = (
    "<p>Against other catalogues the intervals are of our errors alone: the errors of theirs, and differences of "
    "scale, leave fewer stars inside.</p>"
)


def accuracy(content: ReportContent, dpi: int) -> str:
    """Models against held-out and test labels, and the catalogue against the truth (paper I, Figs 6 to 8)."""
    evaluations = [each for each in content.evaluations if each.kind != "external"]
    if not evaluations:
        return nothing("No model was compared with labels or truth.")
    numbers = [summarise(each) for each in evaluations]
    html = [evaluation_table(evaluations, numbers), *_notes(evaluations)]
    compared = comparison_table(evaluations, numbers)
    html += ["<h3>Beside other methods</h3>", compared] if compared else []
    html += ["<h3>Residuals of each model</h3>", PANELS]
    html += [_residuals(each, dpi) for each in evaluations]
    trending = [each for each in evaluations if has_trend(each)]
    if trending:
        html.append("<h3>Bias and σ against each label</h3>")
        caption = "Robust σ (above) and median residual (below) in bins of 10 stars or more; a marker per class."
        html.append(picture(plot_trends(trending), "Bias and sigma against each label", caption, dpi))
    return "\n".join(html)


def errors(content: ReportContent, dpi: int) -> str:
    """Coverage of the claimed errors by magnitude and class, and residuals of the flagged stars; empty if none."""
    by_evaluation = [(each, coverage_rows(each, content.class_names)) for each in content.evaluations]
    rows = [row for _, found in by_evaluation for row in found]
    if not any(row.coverage_68 is not None for row in rows):
        return ""
    html = [
        "<p>Share of stars whose reference value lies within the claimed 68 % and 95 % intervals. "
        "The reference has errors of its own: against labels, honest errors cover what both together scatter.</p>"
    ]
    told = [f"<p>{escape(content.truth_intervals)}</p>"]
    for heading, kind in (("Against labels", "labels"), ("Against the truth", "truth")):
        chosen = [(each, found) for each, found in by_evaluation if each.kind == kind]
        lines = [row for each, found in chosen for row in found if row.group in (each.group, "all")]
        if has_coverage(lines):
            name = next((each.magnitude_name for each, _ in chosen if each.magnitude_name), "")
            caption = (
                "Circles: 68 % intervals; squares: 95 % intervals. Bands: ± 2 and ± 1 per cent about the level. "
                "Bars: how far a share among so few stars scatters (one sigma)."
            )
            html += [f"<h3>{heading}</h3>", *(told if kind == "truth" else [])]
            html += [picture(plot_coverage(lines, name), f"Coverage: {heading}", caption, dpi)]
    html += ["<h3>All samples</h3>", *([OURS_ALONE] if any(e.kind == "external" for e in content.evaluations) else [])]
    by_snr = any(each.magnitude_name == SNR for each in content.evaluations)
    html.append(coverage_table(rows, by=SNR if by_snr else "magnitude"))
    flagged = [row for each in content.evaluations if (row := novelty_row(each))]
    if flagged:
        html += ["<h3>Stars outside of the training sample</h3>", novelty_table(flagged)]
    return "\n".join(html)


def externals(content: ReportContent, dpi: int) -> str:
    """The catalogue against other catalogues (paper I, Figs 9 and 10); empty if none."""
    evaluations = [each for each in content.evaluations if each.kind == "external"]
    if not evaluations:
        return ""
    numbers = [summarise(each) for each in evaluations]
    html = [evaluation_table(evaluations, numbers), *_notes(evaluations)]
    html.append("<p>Residuals are ours − theirs; the claimed intervals are ours, without the errors of theirs.</p>")
    return "\n".join(html + [_residuals(each, dpi) for each in evaluations])


def clusters(content: ReportContent, dpi: int) -> str:
    """Star clusters (paper I, Fig. 11); empty if none."""
    if not content.clusters:
        return ""
    html = [
        "<p>Members share one proper motion and one parallax and lie on one line in the colour – magnitude diagram; "
        "the metallicity is the mean of a Gaussian fitted to the members with precise magnitudes.</p>",
        cluster_table(content.clusters),
    ]
    for cluster in content.clusters:
        figures = cluster_row(cluster)
        outcome = f"mean {short(figures['mean'])}, σ {short(figures['sigma'])}" if cluster.measured else cluster.status
        text = f"{cluster.name}: {outcome}; literature {short(cluster.literature)}"
        if len(cluster.motion):
            drawn = plot_cluster(cluster, content.colour_column, content.magnitude_column)
            html.append(picture(drawn, text, escape(text), dpi))
    return "\n".join(html)


def metallicity_title(content: ReportContent) -> str:
    """Title of :func:`metallicity`: a product without classes has the line of all stars alone."""
    found = content.metallicity
    return "Metallicities by class" if found is not None and len(found.names) > 1 else "Metallicities"


def metallicity(content: ReportContent, dpi: int) -> str:
    """Histograms by class and the shares of metal-poor stars (paper I, Fig. 12); empty if none."""
    found = content.metallicity
    if found is None:
        return ""
    drawn = plot_class_histograms(found.edges, found.counts, found.names, found.label, found.unit)
    stars = int(found.total[0])
    caption = f"All {several(stars, 'star')} of the catalogue with a value; right: the same, logarithmic."
    return picture(drawn, metallicity_title(content), caption, dpi) + class_table(found)


def samples(content: ReportContent, dpi: int) -> str:
    """Number density of the training and test stars (paper I, Figs 2 and 3); empty if none."""
    if not content.samples:
        return ""
    html = [sample_table(content.samples)]
    for sample in content.samples:
        drawn = plot_sample(sample, content.colour_column, content.absolute_column)
        text = f"{model_in_text(sample.model)}: density of training and test stars, and their labels by catalogue"
        html.append(picture(drawn, text, escape(text) + ".", dpi))
    return "\n".join(html)


def extra(section: ExtraSection, dpi: int) -> str:
    """A section that the product brought."""
    figures = [picture(drawn, text, escape(caption), dpi) for drawn, text, caption in section.figures]
    return "\n".join([section.html, *figures])


def _residuals(evaluation: Evaluation, dpi: int) -> str:
    text = describe(evaluation)
    complete = len(pairs(evaluation)[0]) > 0
    return picture(plot_residuals(evaluation), text, escape(text), dpi) if complete else nothing(escape(text))


def _notes(evaluations: Sequence[Evaluation]) -> list[str]:
    notes = dict.fromkeys(each.note for each in evaluations if each.note)
    return [nothing(escape(note)) for note in notes]
