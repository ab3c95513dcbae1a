"""The shipped job on the MILES library: leave-one-out as measured with public tools (needs the shared data)."""

import json
from pathlib import Path

import pytest

from stellarscale.config import load_job
from stellarscale.products.dispatch import run_job

MEASURED = {"teff": 105.0, "logg": 0.289, "fe_h": 0.189}  # five best with a free scale, 944 stars
NO_LABEL = 9000.0


def labels_csv(miles: Path, path: Path) -> int:
    """The library's table as CSV, rows with labels and a spectrum only; returns how many."""
    lines = []
    for line in (miles / "MILES_params.db").read_text().splitlines():
        number, *values = line.split() or ["#"]
        name = f"MILES_res2.50_star_m{number}V"
        if number.isdigit() and (miles / f"{name}.fits").exists():
            teff, logg, fe_h = values[:3]
            if float(teff) < 10 * NO_LABEL and max(float(logg), float(fe_h)) < NO_LABEL:
                lines.append(f"{name},{teff},{logg},{fe_h}")
    path.write_text("spectrum_id,teff,logg,fe_h\n" + "\n".join(lines) + "\n")
    return len(lines)


def test_miles_leave_one_out_is_that_of_public_tools(shared_data, tmp_path):
    miles = shared_data / "spectra" / "miles"
    (tmp_path / "miles").symlink_to(miles)
    assert labels_csv(miles, tmp_path / "miles_labels.csv") == 944
    job = load_job("miles", [f"data={tmp_path}", f"out={tmp_path / 'run'}", "matching.refinement=null"])
    summary = run_job(job, cluster="threads:2")
    assert summary["written"] == 984
    steps = (tmp_path / "run" / "steps.json").read_text()
    numbers = next(step["numbers"] for step in json.loads(steps) if step["step"] == "leave_one_out")
    for label, sigma in MEASURED.items():
        assert numbers[label]["n"] == 944
        assert numbers[label]["robust_sigma"] == pytest.approx(sigma, rel=0.03)
