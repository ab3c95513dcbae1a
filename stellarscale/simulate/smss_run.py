"""Make a mock of SkyMapper images: cut-outs, tables, catalogues of labels, and the truth."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from stellarscale.kernels.in_order import in_order
from stellarscale.settings.stamps import BANDS, EXTINCTION
from stellarscale.simulate import dust, gaia, smss_labels, smss_tables
from stellarscale.simulate.blocks import threads_of, write_manifest
from stellarscale.simulate.files import FitsTable, TextTable
from stellarscale.simulate.plan import Columns
from stellarscale.simulate.sinks import TextRows
from stellarscale.simulate.smss_exposures import draw_exposures
from stellarscale.simulate.smss_files import SPOILT
from stellarscale.simulate.smss_observe import Tally, observe_block
from stellarscale.simulate.smss_plan import ImagePlan
from stellarscale.simulate.smss_stars import draw_block
from stellarscale.simulate.spectra import APOGEE_DTYPE

FILES = {
    "skymapper_dr4": "smss/dr4_master.fits",
    "skymapper_dr4_photometry": "smss/dr4_photometry.csv.gz",
    "skymapper_dr4_images": "smss/dr4_images.csv",
    "gaia_dr3": "gaia/GaiaSource_000000-000000.csv.gz",
    "galah_dr3": "galah/GALAH_DR3_main_allstar_v2.fits",
    "apogee_dr17": "apogee/allStar-dr17-synspec_rev1.fits",
    "lamost_lsp3": "lsp3/lsp3.csv.gz",
}
TRUTH_FILE = "truth/truth.parquet"


@dataclass(frozen=True)
class _Block:
    """What one block hands to the single writer."""

    parts: dict[str, NDArray | TextRows]
    truth: pa.Table
    tally: Tally
    odd: dict[str, list]


class _Sinks:
    """All growing files of the mock."""

    def __init__(self, folder: Path) -> None:
        path = {name: folder / file for name, file in FILES.items()}
        self.files: dict[str, FitsTable | TextTable] = {
            "skymapper_dr4": FitsTable(path["skymapper_dr4"], smss_tables.MASTER_DTYPE, units=smss_tables.MASTER_UNITS),
            "skymapper_dr4_photometry": TextTable(
                path["skymapper_dr4_photometry"], header=",".join(smss_tables.DETECTION_COLUMNS) + "\n"
            ),
            "skymapper_dr4_images": TextTable(
                path["skymapper_dr4_images"], header=",".join(smss_tables.EXPOSURE_COLUMNS) + "\n"
            ),
            "galah_dr3": FitsTable(path["galah_dr3"], smss_labels.GALAH_DTYPE, units=smss_labels.GALAH_UNITS),
            "apogee_dr17": FitsTable(path["apogee_dr17"], APOGEE_DTYPE),
            "lamost_lsp3": TextTable(path["lamost_lsp3"], header=",".join(smss_labels.LSP3_COLUMNS) + "\n"),
        }
        self._gaia = path["gaia_dr3"]
        (folder / "truth").mkdir(exist_ok=True)
        self._truth = pq.ParquetWriter(folder / TRUTH_FILE, smss_tables.TRUTH_SCHEMA)
        self.truths = 0

    def append(self, block: _Block) -> None:
        """Write one block to every file; Gaia's header is known with its first rows."""
        for name, part in block.parts.items():
            if name not in self.files:
                assert isinstance(part, TextRows)
                self.files[name] = TextTable(self._gaia, header=gaia.ecsv_header(list(part.columns)), null="null")
            file = self.files[name]
            if isinstance(part, TextRows):
                assert not isinstance(file, FitsTable)
                file.append(dict(part.columns), part.rows)
            else:
                assert isinstance(file, FitsTable)
                file.append(part)
        self._truth.write_table(block.truth)
        self.truths += block.truth.num_rows

    def close(self) -> None:
        """Finish every file."""
        with ExitStack() as stack:
            stack.callback(self._truth.close)
            for file in self.files.values():
                stack.callback(file.close)


def simulate_images(
    *,
    rows: int,
    seed: int,
    out: str | os.PathLike[str],
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Write a mock of SkyMapper: cut-outs of stars and their neighbours, tables, label catalogues and the truth.

    Parameters
    ----------
    rows : int
        Number of primary stars. Half of them have one to three neighbours within 14 arcsec, which are objects too.
    seed : int
        Seed of every random stream. Nothing depends on ``workers``.
    out : path
        Folder to fill: ``smss``, ``cutouts/<object_id % 1000>/<object_id>/<image_id>-<ccd>.fits``, one folder per
        other catalogue, ``dust``, ``truth/truth.parquet`` and ``manifest.json``.
    workers : int, optional
        Threads, each with the stars of 32 primaries in memory; as many as there are processors when absent.
    progress : callable, optional
        Called with (primaries done, primaries in all) after each block.

    Returns
    -------
    dict
        The manifest (``rows``, ``seed``, ``objects``; ``surveys``: by schema name ``files``, ``rows_per_file`` and
        ``rows``; ``cutouts``: number of ``files`` and of those of each kind; ``spoilt``: files that are missing,
        truncated, or without zero point; ``odd``: objects that look like galaxies, have a flag, or lack a band;
        ``dust``, ``truth``, ``extinction``, ``systematics``), plus ``out`` and ``seconds``.

    Raises
    ------
    InputError
        When ``rows`` or ``seed`` cannot be used.
    """
    started = time.perf_counter()
    plan, folder = ImagePlan(rows=rows, seed=seed), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    tally, odd = Tally(), dict[str, list]()
    sinks = _Sinks(folder)
    try:
        made = in_order(partial(_make_block, plan, folder=folder), range(plan.blocks), threads_of(workers))
        for block, result in enumerate(made):
            sinks.append(result)
            _add(tally, odd, result)
            if progress is not None:
                progress(plan.bounds(block)[1], rows)
    finally:
        sinks.close()
    manifest = _manifest(plan, sinks, tally, odd)
    manifest["dust"] = [str(path.relative_to(folder)) for path in dust.write_sfd_maps(folder / "dust")]
    return write_manifest(folder, manifest, started=started)


def _make_block(plan: ImagePlan, block: int, *, folder: Path) -> _Block:
    """Draw the stars of one block, expose, measure, and observe them with every other survey."""
    sky = draw_block(plan, block)
    exposures = draw_exposures(sky, plan, block)
    rng = plan.rng("tables", block)
    odd = smss_tables.draw_odd(sky, rng)
    detections, blends, tally = observe_block(sky, exposures, odd.undetected, plan.rng("pixels", block), folder)
    gaia_columns, in_gaia = gaia.observe_gaia(sky, plan.gaia, block)
    master = smss_tables.master_rows(sky, exposures, detections, odd=odd, in_gaia=in_gaia, rng=rng)
    n_exposures = len(exposures["group"])
    parts: dict[str, NDArray | TextRows] = {
        "skymapper_dr4": master,
        "skymapper_dr4_photometry": TextRows(
            smss_tables.detection_rows(sky, exposures, detections), len(detections["star"])
        ),
        "skymapper_dr4_images": TextRows(smss_tables.exposure_rows(exposures, rng), n_exposures),
        "gaia_dr3": TextRows(gaia_columns, len(in_gaia)),
    }
    parts |= _labels(sky, plan, block)
    truth = smss_tables.truth_rows(sky, exposures, blends, in_gaia)
    return _Block(parts, truth, tally, _named(odd, sky["object_id"]))


def _labels(sky: Columns, plan: ImagePlan, block: int) -> dict[str, NDArray | TextRows]:
    rng = plan.rng("labels", block)
    galah, apogee = smss_labels.galah_rows(sky, rng), smss_labels.apogee_rows(sky, rng)
    return {"galah_dr3": galah, "apogee_dr17": apogee, "lamost_lsp3": TextRows(*smss_labels.lsp3_rows(sky, rng))}


def _named(odd: smss_tables.Odd, object_id: NDArray) -> dict[str, list]:
    star, band = odd.undetected.nonzero()
    return {
        "low_class_star": object_id[odd.low_class_star].tolist(),
        "flagged": object_id[odd.flagged].tolist(),
        "no_detections": [[int(object_id[s]), BANDS[b]] for s, b in zip(star, band, strict=True)],
    }


def _add(tally: Tally, odd: dict[str, list], block: _Block) -> None:
    for kind in SPOILT:
        tally.spoilt[kind] += block.tally.spoilt[kind]
    for name, count in block.tally.kinds.items():
        tally.kinds[name] += count
    for name, objects in block.odd.items():
        odd[name] = odd.get(name, []) + objects


def _manifest(plan: ImagePlan, sinks: _Sinks, tally: Tally, odd: dict[str, list]) -> dict:
    rows = {name: sinks.files[name].rows for name in FILES}
    surveys = {name: {"files": [FILES[name]], "rows_per_file": [n], "rows": n} for name, n in rows.items()}
    written = rows["skymapper_dr4_photometry"] - len(tally.spoilt["missing"])
    return {
        "product": "acf",
        "rows": plan.rows,
        "seed": plan.seed,
        "objects": rows["skymapper_dr4"],
        "surveys": surveys,
        "cutouts": {"files": written, **tally.kinds},
        "spoilt": tally.spoilt,
        "odd": odd,
        "truth": {"file": TRUTH_FILE, "rows": sinks.truths, "epoch": 2016.0},
        "extinction": EXTINCTION,
        "systematics": smss_labels.described(),
    }
