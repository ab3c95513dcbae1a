"""What `simulate` tells of a mock: where its files are, how many rows each survey has, what to run on it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

JOBS = {"sages": "demo", "laspm": "laspm", "acf": "acf_mock"}
_ROWS = {"sages": "stars", "laspm": "spectra", "acf": "primary_stars"}


def mock_summary(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The few lines of a mock's manifest that a person wants to see at once.

    Parameters
    ----------
    manifest : mapping
        What :func:`~stellarscale.simulate.simulate_sky`, :func:`~stellarscale.simulate.simulate_m_stars` or
        :func:`~stellarscale.simulate.simulate_images` returns.

    Returns
    -------
    dict
        Counts, a record for each survey, where the truth, dust maps and manifest are, and ``next``: the command
        that runs a shipped job on the mock.
    """
    product, out = manifest.get("product", "sages"), Path(manifest["out"])
    return {
        "mock": str(out),
        _ROWS[product]: manifest["rows"],
        **_files(manifest),
        "surveys": [_survey(name, about) for name, about in manifest["surveys"].items()],
        "truth": f"{out / manifest['truth']['file']}, {manifest['truth']['rows']:,} rows",
        "dust_maps": str((out / manifest["dust"][0]).parent),
        "manifest": str(out / "manifest.json"),
        "seconds": manifest["seconds"],
        "next": shlex.join(["stellarscale", "run", JOBS[product], "--set", f"data={out}"]),
    }


def _files(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Counts of what a mock of spectra or images has beside the rows of its surveys."""
    product = manifest.get("product")
    if product == "laspm":
        return {
            "stars": manifest["stars"],
            "folders": manifest["spectra"],
            "damaged_files": len(manifest["bad_files"]),
        }
    if product == "acf":
        return {
            "objects": manifest["objects"],
            "cutouts": manifest["cutouts"]["files"],
            "spoilt_cutouts": {kind.replace("_", " "): len(files) for kind, files in manifest["spoilt"].items()},
        }
    return {}


def _survey(name: str, about: Mapping[str, Any]) -> dict[str, Any]:
    files = about["files"]
    where = files[0] if len(files) == 1 else str(PurePosixPath(files[0]).parent)
    return {"survey": name, "rows": about["rows"], "files": len(files), "where": where}
