"""The program itself: what all of its commands share when they begin and when they fail."""

from __future__ import annotations

import errno
import sys
from typing import Any

import click

from stellarscale import __version__
from stellarscale.errors import StellarscaleError


class _Group(click.Group):
    """Turns our errors into one paragraph and an honest exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what goes wrong becomes a message and an exit code, never a traceback."""
        from stellarscale.products.leaving import begin, leave_interrupted

        begin()
        try:
            return super().invoke(ctx)
        except StellarscaleError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted: what is finished is kept; the same command goes on from there.", err=True)
            leave_interrupted()
            sys.exit(130)
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output went away; click knows what to do
                raise
            place = f" Where: {error.filename}." if error.filename else ""
            click.echo(f"Error: {error.strerror or error}.{place}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stellarscale")
@click.option("-v", "--verbose", count=True, help="Say more; twice for debugging.")
def main(verbose: int) -> None:
    """Turn survey files into catalogues of stellar parameters."""
    import logging

    level = {0: logging.WARNING, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    # Hours without a word; and stars that are not wanted, which the counts of the end do not explain.
    for talker in ("models.image_training", "products.cutouts_download", "products.selection", "products.stamp_steps"):
        logging.getLogger(f"stellarscale.{talker}").setLevel(min(level, logging.INFO))
