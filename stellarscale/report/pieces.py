"""Pieces of HTML that every section of the page is made of."""

from __future__ import annotations

import base64
from html import escape

from matplotlib.figure import Figure

from stellarscale.report.plots_style import png


def picture(drawn: Figure, alternative: str, caption: str, dpi: int) -> str:
    """A figure inlined as PNG; the caption is HTML, the alternative text is plain."""
    data = base64.b64encode(png(drawn, dpi)).decode("ascii")
    width, height = (round(100 * float(size)) for size in drawn.get_size_inches())
    # Narrow figures keep their size instead of being blown up to the width of the page.
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alternative)}"'
        f' width="{width}" height="{height}" style="max-width:{width}px">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def nothing(text: str) -> str:
    """A line that says why a section is empty."""
    return f'<p class="soft">{text}</p>'
