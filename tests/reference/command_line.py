"""The program as a user meets it: small survey files, and calls of the real command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.table import Table
from click.testing import CliRunner, Result

from stellarscale.catalog.reader import open_stored, read_columns
from stellarscale.cli import main

FIRST_ID = 2**53 + 1
ROWS = 600
PAIRS = 300
HEADER = "source_id,ra,dec\n"
"""Of a table in text that is enough for an import as Gaia's."""


def gaia_frame() -> pd.DataFrame:
    """600 stars on both sides of right ascension 0, ids that float64 cannot hold, small proper motions."""
    rng = np.random.default_rng(5)
    ra = (359.0 + rng.uniform(0, 2, ROWS)) % 360.0
    return pd.DataFrame(
        {
            "source_id": FIRST_ID + 2 * np.arange(ROWS, dtype=np.int64),
            "ra": ra,
            "dec": rng.uniform(9, 11, ROWS),
            "pmra": rng.normal(0, 5, ROWS),
            "pmdec": rng.normal(0, 5, ROWS),
            "phot_g_mean_mag": rng.uniform(10, 18, ROWS),
        }
    )


def user_table() -> Table:
    """Every second of the stars, 0.04 arcsec away, as a table of the user's own; no motions, no epoch."""
    stars = gaia_frame().iloc[::2]
    table = Table({"id": stars.source_id.to_numpy() + 2**54, "ra": stars.ra.to_numpy(), "dec": stars.dec.to_numpy()})
    table["dec"] += 1e-5
    table["g_mag"] = stars.phot_g_mean_mag.to_numpy()
    table["ra"].unit = table["dec"].unit = "deg"
    return table


def write_files(folder: Path) -> tuple[Path, Path]:
    """Write both tables as ``gaia.csv`` and ``user.fits``."""
    gaia, user = folder / "gaia.csv", folder / "user.fits"
    gaia_frame().to_csv(gaia, index=False)
    user_table().write(user)
    return gaia, user


def call(*arguments: object) -> Result:
    """Run a command on two threads; fails on anything that a user would see as a traceback."""
    words = [str(argument) for argument in arguments]
    if words[0] in {"import", "crossmatch", "run", "demo"} and "--cluster" not in words:
        words += ["--cluster", "threads:2"]
    result = CliRunner().invoke(main, words)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert "Traceback" not in result.output
    return result


def summary(*arguments: object) -> dict[str, Any]:
    """Run a command that must succeed, and read its ``--json``."""
    result = call(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refused(*arguments: object, code: int = 1) -> str:
    """Run a command that must fail; its one paragraph on standard error, nothing on standard output."""
    result = call(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    text = result.stderr.strip()
    if code == 1:
        paragraph = [line for line in text.splitlines() if line.startswith("Error: ")]
        assert len(paragraph) == 1, text
        assert text.endswith(paragraph[0]), "the paragraph is one line, and the last"
        text = paragraph[0]
    for ugly in ("..", ". .", "<class", "object at 0x", "Path('", "ValueError", "KeyError"):
        assert ugly not in text.replace("...", ""), text
    return text


def import_both(folder: Path, *, max_rows: int = 150) -> tuple[Path, Path]:
    """Import both tables by the command line, into several partitions each."""
    gaia, user = write_files(folder)
    summary("import", gaia, "--survey", "gaia_dr3", "--out", folder / "gaia", "--max-rows", max_rows)
    summary("import", user, "--survey", "user_table", "--out", folder / "user", "--max-rows", max_rows)
    return folder / "gaia", folder / "user"


def import_gaia(*paths: Path, out: Path) -> str:
    """Import files as Gaia's, which must fail; what is said."""
    return refused("import", *paths, "--survey", "gaia_dr3", "--out", out)


def unfinished(root: Path) -> bool:
    """Whether nobody could take the directory for a catalogue."""
    return not (root / "hats.properties").exists() and not (root / "dataset" / "_metadata").exists()


def column(root: Path, name: str) -> list:
    """The values of a column of a catalogue, in the order of the sky."""
    return read_columns(open_stored(root), [name])[name].to_pylist()
