"""Commands that look at a catalogue: info, verify, export, plot."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stellarscale.cli.options import (
    json_option,
    subset_option,
    tell,
)


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@json_option
def info(catalog: Path, as_json: bool) -> None:
    """Say what is in a CATALOG: rows, partitions, columns with units."""
    from stellarscale.products.inspect import describe_catalog

    tell(describe_catalog(catalog), as_json)


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Check the files and their footers, not every row.")
@json_option
def verify(catalog: Path, quick: bool, as_json: bool) -> None:
    """Check every file of a CATALOG against what the catalogue says of itself."""
    from stellarscale.products.inspect import verify_catalog

    summary = verify_catalog(catalog, deep=not quick)
    tell(summary, as_json)
    if summary["problems"]:
        sys.exit(1)


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="File to write.")
@click.option(
    "--paper-table",
    type=click.Path(path_type=Path),
    help="File to write, .fits or .csv, with the table as the SAGES paper publishes it, instead of --out.",
)
@click.option(
    "--format", "kind", type=click.Choice(["fits", "csv", "votable", "parquet"]), help="From the suffix when absent."
)
@click.option("--columns", help="Comma-separated columns; all when absent. The paper's table has its own.")
@subset_option
@json_option
def export(
    catalog: Path,
    out: Path | None,
    paper_table: Path | None,
    kind: str | None,
    columns: str | None,
    subset: str | None,
    as_json: bool,
) -> None:
    """Write a CATALOG, or a part of it, as one file for TOPCAT, astropy or a spreadsheet."""
    from stellarscale.products.inspect import export_catalog, export_paper

    if (out is None) == (paper_table is None):
        raise click.UsageError("give either --out or --paper-table")
    if paper_table is not None:
        if columns is not None:
            raise click.UsageError("--paper-table has columns of its own: leave --columns out")
        tell(export_paper(catalog, paper_table, kind=kind, subset=subset), as_json)
        return
    assert out is not None, "checked above"
    chosen = [name.strip() for name in columns.split(",")] if columns is not None else None
    tell(export_catalog(catalog, out, kind=kind, columns=chosen, subset=subset), as_json)


@click.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory for the PNG files.")
@json_option
def plot(catalog: Path, out: Path, as_json: bool) -> None:
    """Draw a CATALOG: sky map, and the Kiel and colour - magnitude diagrams it has columns for."""
    from stellarscale.products.inspect import plot_stored

    tell(plot_stored(catalog, out), as_json)
