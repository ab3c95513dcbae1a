"""The command line: thin, lazy, honest about what went wrong."""

from __future__ import annotations

from stellarscale.cli.catalogs import crossmatch, demo, import_command, simulate
from stellarscale.cli.group import main
from stellarscale.cli.jobs import adql, bench, cutouts, keys, report, run, status
from stellarscale.cli.looking import export, info, plot, verify

__all__ = ["main"]

for _command in (
    *(demo, simulate, import_command, crossmatch),
    *(run, keys, adql, cutouts, status, report, bench),
    *(info, verify, export, plot),
):
    main.add_command(_command)
