"""Options that several commands have, and how a summary is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
cluster_option = click.option(
    "--cluster",
    default="threads",
    show_default=True,
    help="threads[:N], processes[:N], tcp://HOST:PORT or scheduler-file:PATH.",
)
fresh_option = click.option(
    "--fresh", is_flag=True, help="Throw away what an earlier run left in the output directory."
)
subset_option = click.option(
    "--subset",
    help="cone:RA,DEC,RADIUS_DEG | box:RA1,RA2,DEC1,DEC2 | polygon:RA,DEC;... | pixels:ORDER/IPIX,... | sample:SHARE",
)
set_option = click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. seed=7."
)
out_option = click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to make.")


def tell(summary: dict[str, Any], as_json: bool) -> None:
    """Print what a command did, for a person or for a program."""
    from stellarscale.products.telling import summary_text

    click.echo(json.dumps(summary, default=str) if as_json else summary_text(summary))
