"""Labels out of the literature: PASTEL with several rows a star, and the nine papers on very metal-poor stars."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from stellarscale.simulate import observe
from stellarscale.simulate.plan import Columns, SkyPlan
from stellarscale.simulate.spectra import field_stars, input_positions
from stellarscale.simulate.systematics import measured
from stellarscale.simulate.text import arrow_text, chosen_text, decimal, numbered

PASTEL_COLUMNS = ["ID", "_RAJ2000", "_DEJ2000", "Teff", "e_Teff", "logg", "e_logg", "[Fe/H]", "e_[Fe/H]", "bibcode"]
VMP_COLUMNS = ["name", "ra", "dec", "teff", "logg", "fe_h", "fe_h_err", "reference"]
_BIBCODES = ["1999A&A...MOCK...1A", "2005ApJ...MOCK...2B", "2011MNRAS.MOCK...3C", "2014AJ....MOCK...4D"]
# The papers that section 2.2 of paper I lists, and the share of the stars that each brings to the mock.
_PAPERS = {
    "Li+2018": 0.62, "Lai+2004": 0.01, "Bonifacio+2009": 0.01, "Yong+2013": 0.02, "Aoki+2013": 0.02, "Yoon+2016": 0.04,
    "Francois+2018": 0.01, "Ezzeddine+2020": 0.05, "Limberg+2021": 0.22,
}  # fmt: skip


def observe_pastel(
    sky: Columns, plan: SkyPlan, chunk: int
) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray, dict[str, int]]:
    """Rows of PASTEL: bright stars, metal-poor ones thirty times likelier, one row per paper on a star.

    Half of the rows give no errors and a tenth no [Fe/H], as empty cells.

    Returns
    -------
    columns : dict of Arrow arrays
        Native columns (VizieR's) in file order.
    rows : ndarray of int
        The true star of each row.
    extra : dict of int
        How many rows repeat a name.
    """
    rng = plan.rng(chunk, "pastel")
    fit = field_stars(sky) & (sky["teff_k"] > 3700.0)
    weight = fit * np.exp(-0.5 * ((sky["mag_g"] - 11.0) / 1.2) ** 2) * np.where(sky["fe_h"] < -1.0, 30.0, 1.0)
    named = observe.biased_choice(weight, plan.pastel_targets * len(weight) / plan.rows, rng)
    rows = np.repeat(named, np.minimum(rng.geometric(0.6, len(named)), 6))
    star, n = observe.select(sky, rows), len(rows)
    ra, dec = input_positions(star)
    columns: dict[str, pa.Array | pa.Scalar] = {"ID": arrow_text(numbered("BD ", star["star_id"], 12))}
    columns |= {"_RAJ2000": decimal(ra, 5), "_DEJ2000": decimal(dec, 5)}
    silent, unmeasured = rng.random(n) < 0.5, rng.random(n) < 0.1
    for name, parameter, places in (("Teff", "teff_k", 0), ("logg", "logg", 2), ("[Fe/H]", "fe_h", 2)):
        value, sigma = measured(star, "pastel", parameter, rng, worse=rng.uniform(0.6, 1.6, n))
        lost = unmeasured if name == "[Fe/H]" else None
        columns[name] = decimal(value, places, missing=lost)
        columns[f"e_{name}"] = decimal(sigma, places, missing=silent if lost is None else silent | lost)
    columns["bibcode"] = chosen_text(_BIBCODES, rng.integers(0, len(_BIBCODES), n))
    return {name: columns[name] for name in PASTEL_COLUMNS}, rows, {"duplicate_id": n - len(named)}


def observe_vmp(sky: Columns, plan: SkyPlan, chunk: int) -> tuple[dict[str, pa.Array | pa.Scalar], NDArray]:
    """Rows of a user's table of the nine papers: nearly all with [Fe/H] <= -2 on the papers' own, lower scale.

    Adding 0.427 to their [Fe/H] brings it to the scale of the training labels (paper I, section 2.3).

    Returns
    -------
    columns : dict of Arrow arrays
        Columns in file order; the papers give one error, that of [Fe/H].
    rows : ndarray of int
        The true star of each row.
    """
    rng = plan.rng(chunk, "vmp")
    fit = field_stars(sky) & (sky["mag_g"] < 17.0)
    # The share above -2 is what is left of the searches' false alarms.
    weight = fit * np.select([sky["fe_h"] < -2.45, sky["fe_h"] < -1.6, sky["fe_h"] < -1.0], [2.0, 1.0, 0.03], 0.0)
    rows = observe.biased_choice(weight, plan.vmp_targets * len(weight) / plan.rows, rng)
    star, n = observe.select(sky, rows), len(rows)
    ra, dec = input_positions(star)
    columns: dict[str, pa.Array | pa.Scalar] = {"name": arrow_text(numbered("VMP", star["star_id"], 12))}
    columns |= {"ra": decimal(ra, 6), "dec": decimal(dec, 6)}
    for name, parameter, places in (("teff", "teff_k", 0), ("logg", "logg", 2), ("fe_h", "fe_h", 2)):
        value, sigma = measured(star, "vmp_papers", parameter, rng, worse=rng.uniform(0.7, 1.4, n))
        columns |= {name: decimal(value, places), f"{name}_err": decimal(sigma, places)}
    columns["reference"] = chosen_text(list(_PAPERS), rng.choice(len(_PAPERS), n, p=list(_PAPERS.values())))
    return {name: columns[name] for name in VMP_COLUMNS}, rows
