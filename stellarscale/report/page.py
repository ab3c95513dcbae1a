"""One self-contained HTML page per run: nothing is fetched, no script runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

from stellarscale.report import sections
from stellarscale.report.content import ReportContent, StepRow
from stellarscale.report.labels import count, duration, several
from stellarscale.report.pieces import nothing, picture
from stellarscale.report.plots import star_figures
from stellarscale.report.plots_models import plot_importances
from stellarscale.report.plots_run import plot_steps
from stellarscale.report.plots_sky import plot_sky
from stellarscale.report.plots_style import DPI
from stellarscale.report.style import CSS
from stellarscale.report.tables import flag_rows, name_table, step_table
from stellarscale.report.tables_evaluation import role_table

MANY_PLOTS = 30
CAPTIONS = {
    "kiel": "Kiel diagram: surface gravity against effective temperature, giants at the top right.",
    "colour_magnitude": "Colour – absolute magnitude diagram, dereddened; bright stars at the top.",
    "parameters": "Distribution of each parameter in the sample, by class.",
}


def write_report(content: ReportContent, path: Path) -> Path:
    """Write the page of a run; a reader sees the old file or the whole new one, never a part.

    Parameters
    ----------
    content : ReportContent
        What to show; sections without content say so or are left out.
    path : Path
        The HTML file; its directory is made when absent.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ValueError
        If an evaluation's arrays differ in length.
    """
    page = render(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as stream:
            stream.write(page)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return path


def render(content: ReportContent) -> str:
    """The page as text; the same content gives the same text."""
    # A page with many models keeps its size by coarser pictures.
    dpi = DPI if len(content.evaluations) <= MANY_PLOTS else DPI * 2 // 3
    every: list[tuple[str, str, str]] = [
        ("summary", "Summary", _summary(content)),
        ("steps", "Rows and time", _steps(content, dpi)),
        ("evaluation", "Accuracy", sections.accuracy(content, dpi)),
        ("errors", "Claimed errors", sections.errors(content, dpi)),
        ("external", "Other catalogues", sections.externals(content, dpi)),
        ("clusters", "Star clusters", sections.clusters(content, dpi)),
        ("metallicity", sections.metallicity_title(content), sections.metallicity(content, dpi)),
        ("samples", "Training and test stars", sections.samples(content, dpi)),
        *((extra.key, escape(extra.title), sections.extra(extra, dpi)) for extra in content.extras),
        ("importances", "Importances", _importances(content, dpi)),
        ("stars", "Stars", _stars(content, dpi)),
        ("sky", "Sky", _sky(content, dpi)),
        ("flags", "Quality flags", _flags(content)),
        ("reproduce", "How to repeat this run", _reproduce(content)),
    ]
    shown = [(key, title, html) for key, title, html in every if html]
    body = "\n".join(
        f'<section id="{key}" aria-labelledby="{key}-title">\n<h2 id="{key}-title">{title}</h2>\n{html}\n</section>'
        for key, title, html in shown
    )
    links = "".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in shown)
    subtitle = f'<p class="subtitle">{escape(content.subtitle)}</p>' if content.subtitle else ""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(content.title)}</title>
<style>
{CSS}
</style>
</head>
<body>
<div class="layout">
<header class="top"><h1>{escape(content.title)}</h1>{subtitle}</header>
<nav aria-label="Contents"><h2>Contents</h2><ul>{links}</ul></nav>
<main>
{body}
</main>
</div>
</body>
</html>
"""


def _summary(content: ReportContent) -> str:
    tiles: list[tuple[str, str]] = []
    if content.rows is not None:
        tiles.append((count(content.rows), "rows in the catalogue"))
    tiles += _step_tiles(content.steps)
    if content.models:
        tiles.append((count(content.models), "model" if content.models == 1 else "models"))
    cells = "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in tiles)
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    html = f'<div class="tiles">{cells}</div>' if cells else ""
    html += f'<h3>Notes</h3><ul class="notes">{notes}</ul>' if notes else ""
    return html or nothing("Nothing was recorded for this run.")


def _step_tiles(steps: Sequence[StepRow]) -> list[tuple[str, str]]:
    if not steps:
        return []
    ours = [step for step in steps if not step.made_before]
    older = f", {len(steps) - len(ours)} more made by an earlier run" if len(ours) < len(steps) else ""
    tiles = [(duration(sum(step.seconds for step in ours)), f"in {several(len(ours), 'step')}{older}")]
    if ours:
        slowest = max(ours, key=lambda step: step.seconds)
        tiles.append((duration(slowest.seconds), f"slowest step: {escape(slowest.title)}"))
    tiles.append((count(sum(step.rejected for step in steps)), "rows rejected by imports"))
    left_out = sum(step.left_out for step in steps)
    return [*tiles, (count(left_out), "rows left out by cuts, over all steps")] if left_out else tiles


def _steps(content: ReportContent, dpi: int) -> str:
    if not content.steps:
        return nothing("No steps were recorded.")
    caption = (
        "Left: rows in (grey), out (blue), and rejected or left out. Right: wall-clock time and rows read per second."
    )
    listed = "; ".join(f"{s.name} {count(s.rows_in)} in, {count(s.rows_out)} out" for s in content.steps)
    drawn = picture(plot_steps(content.steps), f"Rows through each step: {listed}", caption, dpi)
    stars = [sample for sample in content.samples if sample.roles]
    html = drawn + step_table(content.steps)
    return html + "<h3>Stars of each model</h3>" + role_table(stars) if stars else html


def _importances(content: ReportContent, dpi: int) -> str:
    if content.models is None:
        return ""
    if not content.importances:
        return nothing("No model tells how much each input matters.")
    caption = "Share of the variance that each input removes in the forest (mean decrease in impurity)."
    return picture(plot_importances(content.importances), "Importance of the inputs of each model", caption, dpi)


def _stars(content: ReportContent, dpi: int) -> str:
    if content.stars is None:
        return ""
    if content.stars.num_rows == 0:
        return nothing("No stars to draw.")
    figures = star_figures(
        content.stars,
        colour_column=content.colour_column,
        absolute_column=content.absolute_column,
        class_names=content.class_names,
    )
    if not figures:
        return nothing("The sample has none of the columns that the diagrams need.")
    drawn, rows = content.stars.num_rows, content.rows
    part = "all" if rows is not None and drawn >= rows else "a sample of"
    sample = f"<p>Drawn from {part} {several(drawn, 'row')} of the catalogue.</p>"
    return sample + "".join(picture(each, CAPTIONS[name], CAPTIONS[name], dpi) for name, each in figures.items())


def _sky(content: ReportContent, dpi: int) -> str:
    if content.sky is None or int(content.sky.counts.sum()) == 0:
        return nothing("No sky counts.")
    caption = (
        f"{several(int(content.sky.counts.sum()), 'row')} in HEALPix pixels of order {content.sky.order} "
        f"({several(int((content.sky.counts > 0).sum()), 'pixel')} filled); equatorial "
        "Mollweide projection, right ascension grows to the left."
    )
    return picture(plot_sky(content.sky), "Sky map of the counts", caption, dpi)


def _flags(content: ReportContent) -> str:
    if not content.flag_counts:
        return nothing("No flags were counted.")
    return flag_rows(content.flag_counts, content.rows)


def _reproduce(content: ReportContent) -> str:
    parts: list[tuple[bool, Callable[[], str]]] = [
        (
            bool(content.versions),
            lambda: "<h3>Versions</h3>" + name_table(content.versions, "Package", "Version"),
        ),
        (bool(content.digests), lambda: "<h3>Digests</h3>" + name_table(content.digests, "Of", "SHA-256")),
        (
            bool(content.job_text),
            lambda: (
                "<h3>Job</h3><details><summary>The job as run (YAML)</summary><pre><code>"
                f"{escape(content.job_text)}</code></pre></details>"
            ),
        ),
    ]
    return "".join(make() for present, make in parts if present) or nothing("No job was recorded.")
