"""Tables of moving stars for tests of the match of two partitions, and the ways to match them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa

from stellarscale.kernels.healpix import pixel_of
from stellarscale.kernels.sphere import propagate
from stellarscale.partition.match import MatchConfig, SkyColumns

KEEPS = ["nearest", "all", "mutual"]
MOVING = SkyColumns(id="id", pmra="pmra", pmdec="pmdec", epoch_yr=2016.0)
DATED = SkyColumns(id="id", epoch="epoch")
PLAIN = MatchConfig(1.0, right_prefix="r_", left=SkyColumns(), right=SkyColumns())
TO_YEAR = MatchConfig(1.0, epoch=2000.0, right_prefix="r_", left=MOVING, right=SkyColumns())
BY_ROW = MatchConfig(1.0, epoch="rows", right_prefix="r_", left=MOVING, right=DATED)
CONFIGS = {
    "plain": PLAIN,
    "year": TO_YEAR,
    "rows": BY_ROW,
    "rows, right moves": MatchConfig(1.0, epoch="rows", right_prefix="r_", left=DATED, right=MOVING),
    "year, both move": MatchConfig(1.0, epoch=2010.0, right_prefix="r_", left=MOVING, right=MOVING),
}


def sky_table(ra, dec, **columns):
    """A table in sky order as the catalogue layer hands it out, with a row number of its own."""
    columns = {name: np.asarray(values) for name, values in {"ra": ra, "dec": dec, **columns}.items()}
    key = pixel_of(columns["ra"].astype(float), columns["dec"].astype(float))
    order = np.argsort(key, kind="stable")
    arrays = {name: pa.array(values[order], from_pandas=True) for name, values in columns.items()}
    return pa.table({"_healpix_29": key[order], "id": np.arange(order.size), **arrays})


def stars(seed, n, centre=(0.0, 89.99), size_deg=0.02, speed_masyr=500.0):
    """A clump with motions, a tenth of them missing, and epochs about 2000."""
    rng = np.random.default_rng(seed)
    angle, distance = rng.uniform(0.0, 2.0 * np.pi, n), size_deg * 3.6e6 * np.sqrt(rng.uniform(0.0, 1.0, n))
    ra, dec = propagate(*centre, distance * np.cos(angle), distance * np.sin(angle), 1.0)
    pmra, pmdec = rng.normal(0.0, speed_masyr / 3.0, (2, n)).clip(-speed_masyr, speed_masyr)
    pmra[rng.uniform(size=n) < 0.1] = np.nan
    return sky_table(ra, dec, pmra=pmra, pmdec=pmdec, epoch=rng.uniform(1997.0, 2001.0, n))


def right_of(left, seed, scatter_arcsec=0.3):
    """The same stars measured again, some twice, and as many others."""
    rng = np.random.default_rng(seed)
    again = np.concatenate([np.arange(left.num_rows), rng.integers(0, left.num_rows, left.num_rows // 4)])
    pmra, pmdec = (np.nan_to_num(left[name].to_numpy()) for name in ("pmra", "pmdec"))
    epoch = rng.uniform(1997.0, 2001.0, again.size)
    ra, dec = propagate(
        *(left[name].to_numpy()[again] for name in ("ra", "dec")), pmra[again], pmdec[again], epoch - 2016.0
    )
    ra, dec = propagate(ra, dec, *rng.normal(0.0, 1e3 * scatter_arcsec, (2, again.size)), 1.0)
    others = stars(seed + 1, left.num_rows)
    columns = {"ra": ra, "dec": dec, "epoch": epoch}
    columns |= {"pmra": pmra[again], "pmdec": pmdec[again]}
    both = {name: np.concatenate([values, others[name].to_numpy()]) for name, values in columns.items()}
    return sky_table(**both)


def with_(config, **changes):
    """A configuration with some of its settings changed."""
    return dataclasses.replace(config, **changes)
