"""Make the mock sky chunk by chunk and write every survey's files, the truth and the manifest."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.kernels.in_order import in_order
from stellarscale.simulate import dust, external, gaia, galaxy, galex, literature, sages, spectra, stars, systematics
from stellarscale.simulate.allwise import observe_allwise
from stellarscale.simulate.blocks import threads_of, write_manifest
from stellarscale.simulate.files import TextTable, write_parquet
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.sinks import TABLES, Sinks, TextRows
from stellarscale.simulate.sky import draw_stars
from stellarscale.simulate.truth import truth_table
from stellarscale.simulate.twomass import observe_twomass

SURVEYS = ("sages_dr1", "gaia_dr3", "twomass_psc", "allwise", *(name for name in TABLES if name != "sages_dr1"))


@dataclass
class _ChunkResult:
    """What one chunk hands to the single writer: rows of the growing files, the truth, and its own files."""

    parts: dict[str, NDArray | TextRows]
    truth: pa.Table
    files: list[tuple[str, str, int]]
    extra: dict[str, dict[str, int]] = field(default_factory=dict)


def simulate_sky(
    *,
    rows: int,
    seed: int,
    out: str | os.PathLike[str],
    workers: int | None = None,
    chunk_rows: int = 100_000,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write a mock sky in the surveys' own file formats, with the truth beside it.

    Parameters
    ----------
    rows : int
        Number of true stars; every survey sees some of them.
    seed : int
        Seed of every random stream. The sky depends on (rows, seed, chunk_rows), not on ``workers``.
    out : path
        Folder to fill: one folder per survey, ``truth/truth.parquet``, ``dust/`` and ``manifest.json``.
    workers : int, optional
        Threads, each with one chunk in memory, and one more waits to be written; as many as there are processors
        when absent.
    chunk_rows : int
        Stars made at a time.
    progress : callable, optional
        Called with (stars done, stars in all) after each chunk.

    Returns
    -------
    dict
        The manifest (``rows``, ``seed``, ``surveys``: by schema name the ``files`` relative to ``out``,
        ``rows_per_file``, ``rows``, ``expected_rejects`` and ``duplicate_ids``; ``truth``, ``dust``,
        ``systematics``: by label catalogue, offset from the truth and noise), plus ``out`` and ``seconds``.

    Raises
    ------
    InputError
        When ``rows`` or ``seed`` cannot be used.
    """
    started = time.perf_counter()
    plan, folder = SkyPlan(rows=rows, seed=seed, chunk_rows=chunk_rows), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    surveys: dict[str, dict] = {name: {"files": [], "rows_per_file": [], "extra": {}} for name in SURVEYS}
    with Sinks(folder) as sinks:
        made = in_order(partial(_make_chunk, plan, folder=folder), range(plan.chunks), threads_of(workers))
        for chunk, result in enumerate(made):
            sinks.append(result.parts, result.truth)
            _tally(surveys, result)
            if progress is not None:
                progress(plan.bounds(chunk)[1], rows)
    for name, grown in sinks.surveys.items():
        surveys[name] |= {"files": grown.files, "rows_per_file": grown.rows_per_file}
    maps = [str(path.relative_to(folder)) for path in dust.write_sfd_maps(folder / "dust")]
    return write_manifest(folder, _manifest(plan, surveys, maps), started=started)


def _make_chunk(plan: SkyPlan, chunk: int, *, folder: Path) -> _ChunkResult:
    """Draw one chunk, observe it with every survey and write the files that belong to it alone."""
    sky = draw_stars(plan, chunk)
    files: list[tuple[str, str, int]] = []
    gaia_columns, gaia_rows = gaia.observe_gaia(sky, plan, chunk)
    files += _write_gaia(gaia_columns, len(gaia_rows), plan, chunk, folder)
    psc, psc_rows, psc_extra = observe_twomass(sky, plan, chunk)
    name = f"twomass/psc_{_letters(chunk)}.gz"
    with TextTable(folder / name, separator="|", null="\\N") as text:
        text.append(psc, len(psc_rows) + sum(psc_extra.values()))
    files.append(("twomass_psc", name, text.rows))
    wise, _ = observe_allwise(sky, plan, chunk)
    name = f"allwise/allwise_{chunk:05d}.parquet"
    write_parquet(wise, folder / name)
    files.append(("allwise", name, wise.num_rows))
    uv, uv_rows, uv_extra = sages.observe_sages(sky, plan, chunk)
    parts, pastel_extra = _label_catalogues(sky, plan, chunk)
    parts |= {"sages_dr1": uv, "galex_guvcat": galex.observe_galex(sky, plan, chunk)[0]}
    return _ChunkResult(
        parts=parts,
        truth=truth_table(sky, in_gaia=gaia_rows, in_sages=uv_rows),
        files=files,
        extra={"sages_dr1": uv_extra, "twomass_psc": psc_extra, "pastel": pastel_extra},
    )


def _label_catalogues(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[dict[str, NDArray | TextRows], dict[str, int]]:
    """Rows of every catalogue of stellar parameters, and how many of PASTEL's repeat a name."""
    rave, rave_rows = spectra.observe_rave(sky, plan, chunk)
    pastel, pastel_rows, extra = literature.observe_pastel(sky, plan, chunk)
    vmp, vmp_rows = literature.observe_vmp(sky, plan, chunk)
    andrae, andrae_rows = external.observe_andrae(sky, plan, chunk)
    parts: dict[str, NDArray | TextRows] = {
        "lamost_lrs_stellar": spectra.observe_lamost(sky, plan, chunk)[0],
        "apogee_dr17": spectra.observe_apogee(sky, plan, chunk)[0],
        "huang2023": external.observe_huang(sky, plan, chunk)[0],
        "rave_dr5": TextRows(rave, len(rave_rows)),
        "pastel": TextRows(pastel, len(pastel_rows)),
        "vmp_papers": TextRows(vmp, len(vmp_rows)),
        "andrae2023": TextRows(andrae, len(andrae_rows)),
    }
    return parts, extra


def _write_gaia(
    columns: dict[str, pa.Array | pa.Scalar], n: int, plan: SkyPlan, chunk: int, folder: Path
) -> list[tuple[str, str, int]]:
    """One file per chunk, two when the whole sky is one chunk: a reader must always face several."""
    parts = 2 if plan.chunks == 1 else 1
    edges = np.linspace(0, n, parts + 1).astype(int)
    written = []
    for part in range(parts):
        first, size = int(edges[part]), int(edges[part + 1] - edges[part])
        number = chunk * parts + part
        name = f"gaia/GaiaSource_{number:06d}-{number:06d}.csv.gz"
        cells = {key: c if isinstance(c, pa.Scalar) else c.slice(first, size) for key, c in columns.items()}
        with TextTable(folder / name, header=gaia.ecsv_header(list(columns)), null="null") as text:
            text.append(cells, size)
        written.append(("gaia_dr3", name, size))
    return written


def _letters(number: int) -> str:
    """aaa, aab, ... as the 2MASS files are called."""
    return "".join(chr(97 + number // 26**place % 26) for place in (2, 1, 0))


def _tally(surveys: dict[str, dict], result: _ChunkResult) -> None:
    for survey, name, rows in result.files:
        surveys[survey]["files"].append(name)
        surveys[survey]["rows_per_file"].append(rows)
    for survey, kinds in result.extra.items():
        extra = surveys[survey]["extra"]
        for kind, count in kinds.items():
            extra[kind] = extra.get(kind, 0) + count


def _manifest(plan: SkyPlan, surveys: dict[str, dict], maps: list[str]) -> dict:
    described = {}
    for name, survey in surveys.items():
        rejects = dict(survey["extra"])
        repeated = rejects.pop("duplicate_id", 0)
        described[name] = {
            "files": survey["files"],
            "rows_per_file": survey["rows_per_file"],
            "rows": sum(survey["rows_per_file"]),
            "expected_rejects": rejects,
            "duplicate_ids": repeated,
        }
    clusters = [{"name": c.name, "fe_h": c.fe_h, "ra": c.ra_deg, "dec": c.dec_deg} for c in galaxy.CLUSTERS]
    return {
        "rows": plan.rows,
        "seed": plan.seed,
        "chunk_rows": plan.chunk_rows,
        "surveys": described,
        "truth": {"file": "truth/truth.parquet", "rows": plan.rows, "epoch": 2016.0},
        "dust": maps,
        "extinction": stars.EXTINCTION,
        "systematics": systematics.described(),
        "clusters": clusters,
    }
