"""The command line: thin, lazy, honest about what went wrong."""

from __future__ import annotations

import errno
import json
import sys
from pathlib import Path
from typing import Any

import click

from stellarscale import __version__
from stellarscale.errors import StellarscaleError


class _Group(click.Group):
    """Turns our errors into one paragraph and an honest exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what goes wrong becomes a message and an exit code, never a traceback."""
        try:
            return super().invoke(ctx)
        except StellarscaleError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted: what is finished is kept; the same command goes on from there.", err=True)
            sys.exit(130)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output went away; click knows what to do
                raise
            place = f" Where: {error.filename}." if error.filename else ""
            click.echo(f"Error: {error.strerror or error}.{place}", err=True)
            sys.exit(1)


_json = click.option("--json", "as_json", is_flag=True, help="Print a machine-readable summary.")
_cluster = click.option(
    "--cluster",
    default="threads",
    show_default=True,
    help="threads[:N], processes[:N], tcp://HOST:PORT or scheduler-file:PATH.",
)
_fresh = click.option("--fresh", is_flag=True, help="Throw away what an earlier run left in the output directory.")
_subset = click.option(
    "--subset",
    help="cone:RA,DEC,RADIUS_DEG | box:RA1,RA2,DEC1,DEC2 | polygon:RA,DEC;... | pixels:ORDER/IPIX,... | sample:SHARE",
)
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a setting, e.g. seed=7.")
_out = click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory to make.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stellarscale")
@click.option("-v", "--verbose", count=True, help="Say more; twice for debugging.")
def main(verbose: int) -> None:
    """Turn survey files into catalogues of stellar parameters."""
    import logging

    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("stellarscale.models.image_training").setLevel(min(level, logging.INFO))  # hours without a word


@main.command()
@click.option("--rows", default=100_000, show_default=True, type=click.IntRange(min=1), help="Stars in the mock sky.")
@click.option("--seed", default=1, show_default=True, help="Another seed gives another sky.")
@click.option(
    "--out", default="stellarscale-demo", show_default=True, type=click.Path(path_type=Path), help="Directory to make."
)
@_cluster
def demo(rows: int, seed: int, out: Path, cluster: str) -> None:
    """Simulate a sky, run the sages job on it, and say where the report is."""
    from stellarscale.products.demo import run_demo

    click.echo(run_demo(rows=rows, seed=seed, out=out, cluster=cluster))


@main.command()
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
@_out
@_json
def simulate(rows: int, seed: int, product: str, workers: int | None, out: Path, as_json: bool) -> None:
    """Write a mock sky in the surveys' own file formats, the truth kept aside."""
    from stellarscale.simulate import simulate_images, simulate_m_stars, simulate_sky

    make = {"sages": simulate_sky, "laspm": simulate_m_stars, "acf": simulate_images}[product]
    _report(make(rows=rows, seed=seed, out=out, workers=workers), as_json)


@main.command("import")
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
@_out
@_cluster
@_fresh
@_json
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
    _report(summary, as_json)
    if summary["rejected"] and not summary["written"]:
        click.echo("Error: every row was rejected; the first reason is told above.", err=True)
        sys.exit(1)


@main.command()
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
@_subset
@_out
@_cluster
@_fresh
@_json
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
    _report(summary, as_json)


@main.command()
@click.argument("job")
@_set
@_subset
@_cluster
@_fresh
@click.option("--update", is_flag=True, help="Redo the steps whose settings or inputs changed, and what follows.")
@click.option("--dry-run", is_flag=True, help="Check the job and its inputs, and say what would be done.")
@_json
def run(
    job: str, overrides: tuple[str, ...], subset: str | None, cluster: str, dry_run: bool, as_json: bool, **how: bool
) -> None:
    """Run the JOB file (or the name of a shipped one): files in, value-added catalogue and report out."""
    from stellarscale.config import load_job
    from stellarscale.products.dispatch import plan_job, run_job

    settings = load_job(job, overrides)
    if dry_run:
        _report(plan_job(settings, subset), as_json)
        return
    _report(run_job(settings, cluster=cluster, subset=subset, **how), as_json)


@main.command()
@click.argument("job")
@_set
def adql(job: str, overrides: tuple[str, ...]) -> None:
    """Print the queries that give the tables of an image JOB from the survey's TAP service."""
    from stellarscale.config import load_job
    from stellarscale.products.adql import job_queries

    click.echo(job_queries(load_job(job, overrides)))


@main.command()
@click.argument("job")
@_set
@click.option("--detections", type=click.Path(path_type=Path), help="Those of this catalogue, not of the job's stars.")
@click.option("--rate", "requests_per_s", default=4.0, show_default=True, help="Most requests a second.")
@click.option("--threads", default=4, show_default=True, help="Requests under way at once.")
@click.option("--size-deg", type=float, help="Side of a cut-out; what suits the job's stamps when not given.")
@click.option("--url", "base_url", metavar="URL", help="Another address of the service.")
@_out
@_cluster
@_json
def cutouts(job: str, overrides: tuple[str, ...], out: Path, as_json: bool, base_url: str | None, **how: Any) -> None:
    """Fetch the image cut-outs of the stars of a JOB, from where an earlier call stopped."""
    from stellarscale.config import load_job
    from stellarscale.products.cutout_requests import fetch_cutouts

    how |= {"base_url": base_url} if base_url else {}
    summary = fetch_cutouts(load_job(job, overrides), out, **how)
    _report(summary, as_json)
    if summary["failed"]:
        sys.exit(1)


@main.command()
@click.argument("prefix", default="")
@click.option(
    "--product",
    type=click.Choice(["sages", "laspm", "acf"]),
    default="sages",
    show_default=True,
    help="Whose job files.",
)
def keys(prefix: str, product: str) -> None:
    """List the keys of a product's job file with defaults and meaning, or those that begin with PREFIX."""
    from stellarscale.products.keys import job_keys, keys_text

    click.echo(keys_text(job_keys(prefix, product)))


@main.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@_json
def info(catalog: Path, as_json: bool) -> None:
    """Say what is in a CATALOG: rows, partitions, columns with units."""
    from stellarscale.products.inspect import describe_catalog

    _report(describe_catalog(catalog), as_json)


@main.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--quick", is_flag=True, help="Check the files and their footers, not every row.")
@_json
def verify(catalog: Path, quick: bool, as_json: bool) -> None:
    """Check every file of a CATALOG against what the catalogue says of itself."""
    from stellarscale.products.inspect import verify_catalog

    summary = verify_catalog(catalog, deep=not quick)
    _report(summary, as_json)
    if summary["problems"]:
        sys.exit(1)


@main.command()
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
@_subset
@_json
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
        _report(export_paper(catalog, paper_table, kind=kind, subset=subset), as_json)
        return
    assert out is not None, "checked above"
    chosen = [name.strip() for name in columns.split(",")] if columns is not None else None
    _report(export_catalog(catalog, out, kind=kind, columns=chosen, subset=subset), as_json)


@main.command()
@click.argument("catalog", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Directory for the PNG files.")
@_json
def plot(catalog: Path, out: Path, as_json: bool) -> None:
    """Draw a CATALOG: sky map, and the Kiel and colour - magnitude diagrams it has columns for."""
    from stellarscale.products.inspect import plot_stored

    _report(plot_stored(catalog, out), as_json)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@_json
def status(run_dir: Path, as_json: bool) -> None:
    """Say how far a run, or the making of one catalogue, has come."""
    from stellarscale.products.inspect import run_status

    _report(run_status(run_dir), as_json)


@main.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@_json
def report(run_dir: Path, as_json: bool) -> None:
    """Write the report of a finished run again."""
    from stellarscale.products.dispatch import rebuild_report

    _report(rebuild_report(run_dir), as_json)


@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes: a check that the benches run, not a measurement.")
def bench(names: tuple[str, ...], quick: bool) -> None:
    """Time this program side by side with its peers; without NAMES, every bench."""
    from stellarscale.products.bench import run_benches

    sys.exit(run_benches(names, quick=quick))


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


def _report(summary: dict[str, Any], as_json: bool) -> None:
    from stellarscale.products.telling import summary_text

    click.echo(json.dumps(summary, default=str) if as_json else summary_text(summary))


if __name__ == "__main__":
    main()
