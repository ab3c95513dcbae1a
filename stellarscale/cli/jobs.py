"""Commands about jobs and runs: run, keys, adql, cutouts, status, report; and the benches."""

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
    set_option,
    subset_option,
    tell,
)


@click.command()
@click.argument("job")
@set_option
@subset_option
@cluster_option
@fresh_option
@click.option("--update", is_flag=True, help="Redo the steps whose settings or inputs changed, and what follows.")
@click.option("--dry-run", is_flag=True, help="Check the job and its inputs, and say what would be done.")
@json_option
def run(
    job: str, overrides: tuple[str, ...], subset: str | None, cluster: str, dry_run: bool, as_json: bool, **how: bool
) -> None:
    """Run the JOB file (or the name of a shipped one): files in, value-added catalogue and report out."""
    from stellarscale.config import load_job
    from stellarscale.products.dispatch import plan_job, run_job

    settings = load_job(job, overrides)
    if dry_run:
        tell(plan_job(settings, subset), as_json)
        return
    tell(run_job(settings, cluster=cluster, subset=subset, **how), as_json)


@click.command()
@click.argument("prefix", default="")
@click.option(
    "--product",
    type=click.Choice(["sages", "laspm", "acf"]),
    help="Whose job files; when not given the only one with such keys, else sages, and where others differ.",
)
def keys(prefix: str, product: str | None) -> None:
    """List the keys of a product's job file with defaults and meaning, or those that begin with PREFIX."""
    from stellarscale.products.keys import job_keys, keys_text, other_products, product_of

    if product is None:
        product = product_of(prefix)
        click.echo(other_products(prefix, product), err=True)
    click.echo(keys_text(job_keys(prefix, product)))


@click.command()
@click.argument("job")
@set_option
def adql(job: str, overrides: tuple[str, ...]) -> None:
    """Print the queries that give the tables of an image JOB from the survey's TAP service."""
    from stellarscale.config import load_job
    from stellarscale.products.adql import job_queries

    click.echo(job_queries(load_job(job, overrides)))


@click.command()
@click.argument("job")
@set_option
@click.option("--detections", type=click.Path(path_type=Path), help="Those of this catalogue, not of the job's stars.")
@click.option("--rate", "requests_per_s", default=4.0, show_default=True, help="Most requests a second.")
@click.option("--threads", default=4, show_default=True, help="Requests under way at once.")
@click.option("--size-deg", type=float, help="Side of a cut-out; what suits the job's stamps when not given.")
@click.option("--url", "base_url", metavar="URL", help="Another address of the service.")
@out_option
@cluster_option
@json_option
def cutouts(job: str, overrides: tuple[str, ...], out: Path, as_json: bool, base_url: str | None, **how: Any) -> None:
    """Fetch the image cut-outs of the stars of a JOB, from where an earlier call stopped."""
    from stellarscale.config import load_job
    from stellarscale.products.cutout_requests import fetch_cutouts

    how |= {"base_url": base_url} if base_url else {}
    summary = fetch_cutouts(load_job(job, overrides), out, **how)
    tell(summary, as_json)
    if summary["failed"]:
        sys.exit(1)


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@json_option
def status(run_dir: Path, as_json: bool) -> None:
    """Say how far a run, or the making of one catalogue, has come."""
    from stellarscale.products.inspect import run_status

    tell(run_status(run_dir), as_json)


@click.command()
@click.argument("run_dir", type=click.Path(path_type=Path))
@json_option
def report(run_dir: Path, as_json: bool) -> None:
    """Write the report of a finished run again."""
    from stellarscale.products.dispatch import rebuild_report

    tell(rebuild_report(run_dir), as_json)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("names", nargs=-1)
@click.option("--quick", is_flag=True, help="Small sizes: a check that the benches run, not a measurement.")
def bench(names: tuple[str, ...], quick: bool) -> None:
    """Time this program side by side with its peers; without NAMES, every bench."""
    from stellarscale.products.bench import run_benches

    sys.exit(run_benches(names, quick=quick))
