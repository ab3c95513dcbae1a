"""Make a mock of an M-star survey: spectra files, the catalogues that label them, models, and the truth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.kernels.in_order import in_order
from stellarscale.simulate import dust, gaia, mcatalogs, mlabels, stars
from stellarscale.simulate.blocks import threads_of, write_manifest
from stellarscale.simulate.files import FitsTable, TextTable
from stellarscale.simulate.lamost_files import FileSpectrum, write_spectrum
from stellarscale.simulate.mmodels import write_models
from stellarscale.simulate.mobserve import BANDS_AA, NATIVE, Observed, observe_block
from stellarscale.simulate.mplan import MStarPlan
from stellarscale.simulate.mvisits import LAYOUTS, plan_visits
from stellarscale.simulate.observe import select
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.spectra import APOGEE_DTYPE, input_positions

_CSV = {
    "bailer_jones_edr3": "bailer_jones/bailer_jones_edr3.csv.gz",
    "variables": "variables/variables.csv.gz",
}
_TABLES: dict[str, tuple[str, np.dtype, dict[str, str]]] = {
    "lamost_lrs_mstellar": (
        "lamost/dr10_v2.0_LRS_mstellar.fits.gz", mcatalogs.MSTELLAR_DTYPE, mcatalogs.MSTELLAR_UNITS,
    ),
    "starhorse_edr3": ("starhorse/starhorse_edr3.fits", mcatalogs.STARHORSE_DTYPE, {}),
    "apogee_dr17": ("apogee/allStar-dr17-synspec_rev1.fits", APOGEE_DTYPE, {}),
    "ding2022": ("ding2022/ding2022.fits", mcatalogs.DING_DTYPE, {"teff": "K", "teff_err": "K"}),
    "qiu2023": ("qiu2023/qiu2023.fits", mcatalogs.QIU_DTYPE, {"teff": "K", "teff_err": "K"}),
}  # fmt: skip


def simulate_m_stars(
    *,
    rows: int,
    seed: int,
    out: str | os.PathLike[str],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write mock LAMOST spectra of M stars and the catalogues that paper II labels them by.

    Parameters
    ----------
    rows : int
        Number of spectrum files; a quarter of the stars has two to six of them.
    seed : int
        Seed of every random stream. Nothing depends on ``workers``.
    out : path
        Folder to fill: ``spectra/<layout>``, one folder per catalogue, ``models``, ``isochrones``, ``dust``,
        ``truth/truth.parquet`` and ``manifest.json``.
    workers : int, optional
        Threads, each with 256 spectra in memory; as many as there are processors when absent.
    progress : callable, optional
        Called with (spectra written, spectra in all) after each block.

    Returns
    -------
    dict
        The manifest (``rows``, ``seed``, ``stars``; ``surveys``: by schema name ``files``, ``rows_per_file`` and
        ``rows``; ``spectra``: number of files by folder; ``bad_files``: file by kind of damage; ``models``,
        ``isochrones``, ``dust``, ``truth``; ``systematics``), plus ``out`` and ``seconds``.

    Raises
    ------
    InputError
        When ``rows`` or ``seed`` cannot be used.
    """
    started = time.perf_counter()
    plan, folder = MStarPlan(rows=rows, seed=seed), Path(out)
    for layout in LAYOUTS:
        (folder / "spectra" / layout).mkdir(parents=True, exist_ok=True)
    sky, visits = plan_visits(plan)
    files, snr = _write_spectra(plan, sky, visits, folder, workers, progress)
    surveys, wrong = _write_catalogues(plan, sky, visits, snr, folder)
    _write_truth(folder / "truth" / "truth.parquet", sky, visits | {"file": np.array(files)}, snr, wrong)
    _write_isochrones(folder / "isochrones" / "isochrones.csv")
    manifest = {
        "product": "laspm",
        "rows": rows,
        "seed": seed,
        "stars": len(sky["star_id"]),
        "spectra": {
            f"spectra/{name}": int(n)
            for name, n in zip(LAYOUTS, np.bincount(visits["layout"], minlength=len(LAYOUTS)), strict=True)
        },
        "bad_files": {f: str(kind) for f, kind in zip(files, visits["bad"], strict=True) if kind},
        "surveys": surveys,
        "models": [str(path.relative_to(folder)) for path in write_models(folder / "models")],
        "isochrones": "isochrones/isochrones.csv",
        "dust": [str(path.relative_to(folder)) for path in dust.write_sfd_maps(folder / "dust")],
        "truth": {"file": "truth/truth.parquet", "rows": rows},
        "extinction": stars.EXTINCTION,
        "systematics": mlabels.described(),
    }
    return write_manifest(folder, manifest, started=started)


def _write_spectra(
    plan: MStarPlan,
    sky: Columns,
    visits: Columns,
    folder: Path,
    workers: int | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[str], Columns]:
    """Every spectrum file, block by block on threads; the files' names and signal to noise in order."""
    snr = {band: np.zeros(plan.rows, np.float32) for band in BANDS_AA}
    files: list[str] = []

    def make(block: int) -> tuple[list[str], Observed]:
        part = select(visits, np.arange(*plan.bounds(block)))
        target = select(sky, part["star"])
        seen = observe_block(target, part, plan.rng("observe", block))
        return _write_block(seen, target, part, folder), seen

    for block, (names, seen) in enumerate(in_order(make, range(plan.blocks), threads_of(workers))):
        files += names
        first, last = plan.bounds(block)
        for band, values in seen.snr.items():
            snr[band][first:last] = values
        if progress is not None:
            progress(last, plan.rows)
    return files, snr


def _write_block(seen: Observed, target: Columns, part: Columns, folder: Path) -> list[str]:
    ra, dec = input_positions(target)
    names = []
    for row, (first, n_pix) in enumerate(zip(seen.first, seen.n_pix, strict=True)):
        pixels = slice(int(first), int(min(first + n_pix, NATIVE.n_pix)))
        about = {name: part[name][row] for name in ("obsid", "designation", "lmjd", "planid", "spid", "fiberid")}
        about |= {name: part[name][row] for name in ("class", "subclass", "z", "z_err")}
        about |= {"ra": ra[row], "dec": dec[row], "snr": {band: values[row] for band, values in seen.snr.items()}}
        spectrum = FileSpectrum(
            flux=seen.flux[row, pixels],
            ivar=seen.ivar[row, pixels],
            andmask=seen.andmask[row, pixels],
            ormask=seen.ormask[row, pixels],
            start_dex=NATIVE.start_dex + NATIVE.step_dex * int(first),
            cards=about,
        )
        layout = LAYOUTS[part["layout"][row]]
        path = write_spectrum(
            spectrum,
            folder / "spectra" / layout,
            str(part["stem"][row]),
            layout=layout,
            zipped=bool(part["zipped"][row]),
            bad=str(part["bad"][row]),
        )
        names.append(str(path.relative_to(folder)))
    return names


def _write_catalogues(
    plan: MStarPlan, sky: Columns, visits: Columns, snr: Columns, folder: Path
) -> tuple[dict[str, dict], dict[str, NDArray[np.int64]]]:
    """Every catalogue; what the manifest says of them, and the stars that each has wrong."""
    records: dict[str, NDArray] = {}
    records["lamost_lrs_mstellar"], bad = mcatalogs.mstellar_rows(sky, visits, snr, plan)
    wrong = {"lamost_lrs_mstellar": visits["obsid"][bad]}
    for name, (rows, star, gross) in {
        "starhorse_edr3": mcatalogs.starhorse_rows(sky, plan),
        "apogee_dr17": mcatalogs.apogee_rows(sky, plan),
        "ding2022": mcatalogs.ding_rows(sky, visits, plan),
        "qiu2023": mcatalogs.qiu_rows(sky, visits, plan),
    }.items():
        records[name], wrong[name] = rows, sky["source_id"][star[gross]]
    surveys = {}
    for name, (file, dtype, units) in _TABLES.items():
        with FitsTable(folder / file, dtype, units=units) as table:
            table.append(records[name])
        surveys[name] = _entry(file, table.rows)
    texts = {
        "bailer_jones_edr3": mcatalogs.distance_rows(sky, plan),
        "variables": mcatalogs.variable_rows(sky, plan),
    }
    for name, columns in texts.items():
        surveys[name] = _entry(_CSV[name], _write_csv(folder / _CSV[name], columns, header=",".join(columns) + "\n"))
    n = len(sky["star_id"])
    columns, _ = gaia.observe_gaia(sky, SkyPlan(rows=n, seed=plan.seed, chunk_rows=n), 0)
    file = "gaia/GaiaSource_000000-000000.csv.gz"
    header = gaia.ecsv_header(list(columns))
    surveys["gaia_dr3"] = _entry(file, _write_csv(folder / file, columns, header=header, null="null"))
    return surveys, wrong


def _write_csv(path: Path, columns: dict[str, pa.Array | pa.Scalar], *, header: str, null: str = "") -> int:
    rows = max(len(column) for column in columns.values() if isinstance(column, pa.Array))
    with TextTable(path, header=header, null=null) as text:
        text.append(columns, rows)
    return rows


def _entry(file: str, rows: int) -> dict:
    return {"files": [file], "rows_per_file": [rows], "rows": rows}


def _write_truth(path: Path, sky: Columns, visits: Columns, snr: Columns, wrong: dict[str, NDArray]) -> None:
    """One row per spectrum: who it is, what is true of the star, what is wrong with the file or with its labels."""
    star = select(sky, visits["star"])
    columns: Columns = {"obsid": visits["obsid"], "spectrum_id": visits["stem"], "source_id": star["source_id"]}
    columns |= {name: star[name] for name in ("ra", "dec", "teff", "logg", "m_h", "alpha", "activity")}
    columns |= {"rv": star["rv_kms"], "distance_pc": star["distance_pc"], "e_bv": star["ebv"], "abs_g": star["abs_g"]}
    columns |= {"class": star["kind"], "variable": star["variable"], "z": visits["z"], "bad_file": visits["bad"]}
    columns["file"] = visits["file"]
    columns |= {"snr_i": snr["i"], "layout": np.array(LAYOUTS)[visits["layout"]]}
    for name, ids in wrong.items():
        who = columns["obsid"] if name == "lamost_lrs_mstellar" else columns["source_id"]
        columns[f"wrong_{name}"] = np.isin(who, ids)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def _write_isochrones(path: Path) -> None:
    columns = mcatalogs.isochrone_rows()
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.stack(list(columns.values()), axis=1)
    np.savetxt(path, rows, delimiter=",", header=",".join(columns), comments="", fmt=["%.1f", "%.4f", "%.2f"])
