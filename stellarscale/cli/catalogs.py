"""Commands that make files and catalogues: demo, simulate, import, crossmatch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from stellarscale.cli.options import (
    cluster_option,
    fresh_option,
    json_option,
    out_option,
    subset_option,
    tell,
)


@click.command()
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(min=1), help="Stars in the mock sky.")
@click.option("--seed", default=1, show_default=True, help="Another seed gives another sky.")
@click.option(
    "--out", default="stellarscale-demo", show_default=True, type=click.Path(path_type=Path), help="Directory to make."
)
@cluster_option
def demo(rows: int, seed: int, out: Path, cluster: str) -> None:
    """Simulate a sky, run the sages job on it, and say where the report is."""
    from stellarscale.products.demo import run_demo

    click.echo(run_demo(rows=rows, seed=seed, out=out, cluster=cluster))


@click.command()
@click.option(
    "--rows",
    required=True,
    type=click.IntRange(min=1),
    help="Stars in the mock sky; for laspm spectra, for acf primary stars.",
)
@click.option("--seed", default=1, show_default=True, help="Another seed gives another sky.")
@click.option(
    "--product",
    type=click.Choice(["sages", "laspm", "acf"]),
    default="sages",
    show_default=True,
    help="Whose surveys: acf has images of SkyMapper.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Threads; as many as there are processors when not given.")
@out_option
@json_option
def simulate(rows: int, seed: int, product: str, workers: int | None, out: Path, as_json: bool) -> None:
    """Write a mock sky in the surveys' own file formats, the truth kept aside."""
    from stellarscale.products.mocks import mock_summary
    from stellarscale.simulate import simulate_images, simulate_m_stars, simulate_sky

    make = {"sages": simulate_sky, "laspm": simulate_m_stars, "acf": simulate_images}[product]
    manifest = make(rows=rows, seed=seed, out=out, workers=workers)
    tell(manifest if as_json else mock_summary(manifest), as_json)


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--survey", required=True, help="Name of a survey schema, or the path of one.")
@click.option(
    "--columns",
    metavar="NAME,NAME,...",
    help="Columns to import besides id, position, motion, epoch and what the survey requires; all when not given.",
)
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    help="Row cap of a partition; 1,000,000, or 20,000 spectra, when not given.",
)
@click.option(
    "--wave-aa", metavar="A,B", help="Store spectra between these vacuum wavelengths in Angstrom; the survey's if not."
)
@click.option(
    "--margin-arcsec",
    type=click.FloatRange(min=0, min_open=True),
    help="Write a margin cache of this width beside it, for other tools.",
)
@out_option
@cluster_option
@fresh_option
@json_option
def import_command(
    files: tuple[Path, ...],
    survey: str,
    out: Path,
    cluster: str,
    margin_arcsec: float | None,
    as_json: bool,
    **how: Any,
) -> None:
    """Import survey FILES into a HATS catalogue.

    Of a survey of spectra, FILES are also directories, quoted patterns, and @LIST, a text file of such.
    """
    from stellarscale.products import importing, steps

    with steps.session(cluster) as session:
        if margin_arcsec:
            importing.margin_path(out)
        wave_aa, how["columns"] = how.pop("wave_aa"), _names(how["columns"])
        grid = importing.grid_within(survey, _range(wave_aa)) if wave_aa else None
        summary = importing.import_survey(session, files, survey, out, grid=grid, **how)
        if margin_arcsec:
            summary["margin"] = importing.write_margin_cache(out, margin_arcsec)
    tell(summary, as_json)
    if summary["rejected"] and not summary["written"]:
        click.echo("Error: every row was rejected; the first reason is told above.", err=True)
        sys.exit(1)


@click.command()
@click.argument("left", type=click.Path(path_type=Path))
@click.argument("right", type=click.Path(path_type=Path))
@click.option("--radius-arcsec", required=True, type=float, help="Largest separation of a pair.")
@click.option(
    "--keep",
    type=click.Choice(["nearest", "all", "mutual"]),
    default="nearest",
    show_default=True,
    help="Of the RIGHT rows within the radius: the nearest, all, or the nearest if that holds both ways.",
)
@click.option(
    "--how",
    type=click.Choice(["inner", "left"]),
    default="inner",
    show_default=True,
    help="inner: LEFT rows that have a partner; left: all of them.",
)
@click.option(
    "--epoch",
    metavar="YEAR|rows",
    help="Move what has proper motions to this year, or to the epoch of each row of the other catalogue.",
)
@click.option("--prefix", help="Prefix of the right catalogue's columns; its alias when absent.")
@subset_option
@out_option
@cluster_option
@fresh_option
@json_option
def crossmatch(left: Path, right: Path, out: Path, cluster: str, as_json: bool, **options: Any) -> None:
    """Match the catalogue LEFT with RIGHT, one task per partition of LEFT."""
    from stellarscale.config import MatchStep
    from stellarscale.products import steps
    from stellarscale.products.matching import match_catalogs
    from stellarscale.schema import parse_mapping

    names = ("radius_arcsec", "keep", "how", "epoch", "prefix")
    settings = {name: options[name] for name in names} | {"catalog": str(right)}
    settings["epoch"] = _epoch(options["epoch"])
    step = parse_mapping(MatchStep, settings, where="crossmatch options")
    with steps.session(cluster) as session:
        summary = match_catalogs(session, left, right, out, step=step, subset=options["subset"], fresh=options["fresh"])
    tell(summary, as_json)


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _range(text: str) -> tuple[float, float]:
    try:
        first, last = map(float, text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not two numbers with a comma", param_hint="--wave-aa") from None
    return first, last


def _epoch(text: str | None) -> float | str | None:
    if text is None or text == "rows":
        return text
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither a year nor 'rows'", param_hint="--epoch") from None
