"""Columns of another catalogue for the rows that share a key with it: one step of a product."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from stellarscale.catalog.reader import open_stored
from stellarscale.engine.spectra_tasks import AttachTask, attach_pixel
from stellarscale.partition.attach import AttachConfig, KeyColumns, attached_schema
from stellarscale.products.steps import Mapped, Session, Summary, inherited, map_catalog
from stellarscale.settings.laspm import Attach


def attach_catalog(on: Session, left: Path, right: Path, out: Path, attach: Attach) -> Summary:
    """Attach columns of the right catalogue to every row of the left one; those without a partner get nulls.

    Parameters
    ----------
    on : Session
    left, right, out : Path
        Catalogues to read, and the one to make.
    attach : Attach
        Keys, columns, and how far apart two rows of one key may stand.

    Returns
    -------
    dict
        ``rows_in``, ``written`` (the same), ``matched``, ``several`` (rows with more than one partner: the first along
        the sky counts), ``seconds`` and more.

    Raises
    ------
    SchemaError
        If a column is missing, a new one's name is taken, or the keys are of different types.
    """
    ours, theirs = open_stored(left), open_stored(right)
    config = AttachConfig(
        left=KeyColumns(attach.key, ours.properties.ra, ours.properties.dec),
        right=KeyColumns(attach.their_key, theirs.properties.ra, theirs.properties.dec),
        columns=attach.columns,
        radius_arcsec=attach.radius_arcsec,
    )
    mapped = Mapped(
        step="attach",
        source=left,
        inputs=(right,),
        out=out,
        schema=attached_schema(ours.schema, theirs.schema, config),
        properties=inherited(ours.properties, out.name),
        settings=attach.model_dump(mode="json", exclude={"catalog"}),
    )
    done = map_catalog(on, partial(attach_pixel, AttachTask(left, right, out, config)), mapped)
    return {**done, "name": f"attach {attach.catalog}"}
