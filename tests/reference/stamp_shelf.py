"""Stars, detections and cut-outs held in memory, and the stamps that are made of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from reference.fake_cutouts import Shot, image_of, wcs_of

from stellarscale.flags import Flag
from stellarscale.kernels.stamp_stack import unstretch
from stellarscale.partition.stamp_config import StampConfig
from stellarscale.partition.stamps import make_stamps
from stellarscale.settings.stamps import StampSettings
from stellarscale.stamp_columns import format_of, stamps_of
from stellarscale.surveys.cutouts import Cutout

BANDS = ("g", "r")
SIZE = 32
RA, DEC = 150.0, -30.0
SETTINGS = StampSettings(
    files="{object_id}/{image_id}",
    bands=BANDS,
    size_px=SIZE,
    softening={"g": 5.0, "r": 4.0},
    use=({"name": "clipped", "columns": ["use"], "equals": 1},),
    dtype="float32",
    images=None,
)
CONFIG = StampConfig(SETTINGS)
MAG = {"g": 15.0, "r": 14.2}
BASE = Shot(RA, DEC, size=48)


def with_settings(**changes) -> StampConfig:
    return StampConfig(StampSettings.model_validate(SETTINGS.model_dump() | changes))


def stars(ids=(7,), ra=(RA,), dec=(DEC,), **more) -> pa.Table:
    return pa.table({"object_id": pa.array(ids, pa.int64()), "ra": ra, "dec": dec, **more})


def detections(*rows: tuple[int, int, int, str], use=1, **more) -> pa.Table:
    """Rows (object_id, image_id, ccd, band)."""
    columns = list(zip(*rows, strict=True)) or [()] * 4
    kinds = (pa.int64(), pa.int64(), pa.int16(), pa.string())
    named = zip(("object_id", "image_id", "ccd", "band"), columns, kinds, strict=True)
    table = {name: pa.array(values, kind) for name, values, kind in named}
    return pa.table(table | {"use": pa.array(np.broadcast_to(use, len(rows)), pa.int16())} | more)


class Shelf:
    """Cut-outs by exposure: shots, or errors to raise."""

    def __init__(self, shots: dict[int, Shot | Exception], neighbours=()):
        self.shots, self.neighbours = shots, list(neighbours)

    def __call__(self, object_id, image_id, ccd, band) -> Cutout:
        shot = self.shots[image_id]
        if isinstance(shot, Exception):
            raise shot
        counts = 10 ** (0.4 * ((shot.zero_point or 25.0) - MAG[band]))
        image = image_of(shot, [(RA, DEC, counts), *self.neighbours])
        wcs = wcs_of(shot)
        return Cutout(image, wcs, shot.zero_point, shot.fwhm_arcsec, "")


TWO_EACH = detections((7, 1, 3, "g"), (7, 2, 3, "g"), (7, 3, 3, "r"), (7, 4, 3, "r"))
SHOTS = {
    1: replace(BASE, sky=80.0, zero_point=24.0),
    2: replace(BASE, shift_px=(2.3, -1.7), turn_deg=3.0, zero_point=25.5),
    3: replace(BASE, shift_px=(-0.4, 0.8), turn_deg=-2.0, fwhm_arcsec=2.0),
    4: replace(BASE, shift_px=(1.2, 0.1), zero_point=26.0, fwhm_arcsec=3.0),
}


def made(shots=None, table=TWO_EACH, config=CONFIG, sky=None, **options):
    return make_stamps(
        stars() if sky is None else sky, table, options.pop("images", None), config, Shelf(shots or SHOTS), **options
    )


def flux(result, row=0) -> np.ndarray:
    """Fluxes (bands, size, size) of a star's stamp."""
    layout = format_of(result.table.schema)
    return unstretch(stamps_of(result.table)[row], layout.softening)


def flags(result, row=0) -> Flag:
    return Flag(result.table["quality_flags"][row].as_py())


def reasons(result) -> dict[int, str]:
    return dict(zip(result.rejects["image_id"].to_pylist(), result.rejects["reason"].to_pylist(), strict=True))
