"""One match of two stored catalogues: what is known of both goes in, a matched catalogue comes out."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from stellarscale.catalog.reader import StoredCatalog, open_stored, read_columns
from stellarscale.catalog.subset import parse_subset
from stellarscale.catalog.writer import WriteOptions
from stellarscale.config import MatchChain, MatchStep
from stellarscale.engine.matchplan import match_config, match_margin_arcsec, pair_properties
from stellarscale.engine.tasks import MatchTask, match_pixel
from stellarscale.errors import CatalogError
from stellarscale.partition.match import MatchConfig, output_schema
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog


def match_catalogs(
    on: Session,
    left: Path,
    right: Path,
    out: Path,
    *,
    step: MatchStep,
    subset: str | None = None,
    fresh: bool = False,
    write: WriteOptions | None = None,
) -> Summary:
    """Cross-match two HATS catalogues, one task per left partition, no margin cache needed.

    Parameters
    ----------
    on : Session
    left, right, out : Path
        Catalogues to read, and the one to make.
    step : MatchStep
        Radius in arcsec, which pairs to keep, inner or left, epoch, prefix of the right columns.
    subset : str, optional
        Part of the left catalogue, as ``--subset``.
    fresh : bool
        Start over.
    write : WriteOptions, optional
        How the result is packed; the default of the package when absent.

    Returns
    -------
    dict
        ``rows_in`` (left), ``matched`` (pairs), ``written``, ``median_separation_arcsec``, ``seconds`` and more.

    Raises
    ------
    SchemaError
        If a column of the result would have two sources; nothing was written then.
    ConfigError
        If an epoch is asked for and neither catalogue can be moved.
    CatalogError
        If a directory is not a HATS catalogue, or its positions are placeholders.
    """
    # Absolute, because a worker need not run where the command was given.
    left, right, out = left.absolute(), right.absolute(), out.absolute()
    one, other = open_stored(left), open_stored(right)
    for side in (one, other):
        if side.properties.kind not in {"object", "source"}:
            raise CatalogError(
                "only a catalogue of objects can be matched",
                where=side.root,
                seen=f"a catalogue of kind {side.properties.kind}",
                cause="a margin cache or an index was given instead of its catalogue",
            )
    config = match_config(one, other, step)
    margin = match_margin_arcsec(one, other, config)
    schema = output_schema(one.schema, other.schema, config)
    chosen = parse_subset(subset) if subset is not None else None
    task = MatchTask(left, right, out, config, margin, chosen, write or WriteOptions())
    mapped = Mapped(
        step="crossmatch",
        source=left,
        inputs=(right,),
        conserved=False,
        out=out,
        schema=schema,
        properties=inherited(one.properties, out.name, **pair_properties(config)),
        settings=step.model_dump(mode="json", exclude={"catalog"}) | {"right_prefix": config.right_prefix},
    )
    summary = map_catalog(on, partial(match_pixel, task), mapped, subset=subset, fresh=fresh)
    return {"matched": 0} | summary | _separations(open_stored(out), config)


def match_chain(
    on: Session,
    chain: MatchChain,
    catalogs: Mapping[str, Path],
    folder: Path,
    *,
    steps: list[Summary],
    subset: str | None = None,
) -> Path:
    """Match catalogues to the primary one, in order; returns the last result, the primary one without a chain.

    Parameters
    ----------
    on : Session
    chain : MatchChain
    catalogs : mapping of str to Path
        Catalogues by name.
    folder : Path
        Where the matched catalogues go, named after what is in them.
    steps : list of dict
        Gets the summary of each match.
    subset : str, optional
        Part of the primary catalogue: it applies to the first match.
    """
    left = catalogs[chain.primary]
    for step in chain.chain:
        out = folder / f"{left.name}_x_{step.catalog}"
        done = match_catalogs(on, left, catalogs[step.catalog], out, step=step, subset=subset)
        steps.append({**done, "name": f"match {left.name} x {step.catalog}"})
        left, subset = out, None
    return left


def _separations(catalog: StoredCatalog, config: MatchConfig) -> Summary:
    name = f"{config.pair_prefix}separation_arcsec"
    column = read_columns(catalog, [name])[name].drop_null()
    median = float(np.median(column.to_numpy())) if len(column) else None
    return {"median_separation_arcsec": median}
