"""Files of networks on images: whether they are the ones that a training wrote."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from stellarscale.engine.image_training_tasks import record_path
from stellarscale.engine.ledger import Ledger
from stellarscale.errors import ModelError
from stellarscale.models.store import digest

log = logging.getLogger(__name__)


def check_trained(ledger: Ledger, models: Path) -> None:
    """Compare the networks that a run has trained with their receipts; what somebody removed is trained again.

    Raises
    ------
    ModelError
        If a file is not the one that the training wrote.
    """
    for name, receipt in ledger.receipts("train").items():
        path = models / f"{name}.safetensors"
        if path.is_file():
            checked_digest(path, receipt["digest"], remedy="put the right file back, or remove it: it is trained again")
        else:
            log.warning("the network %s is gone and is trained again", path)
            ledger.receipt_path("train", name).unlink()


def given_digest(path: Path) -> str:
    """SHA-256 of a network of another run, which must be that of the record beside it, where there is one.

    Raises
    ------
    ModelError
        If the file cannot be read, or the record cannot, or they differ.
    """
    record = record_path(path.parent, path.stem)
    if not record.is_file():
        return digest(path)
    try:
        needed = json.loads(record.read_text())["digest"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            "the record of the network's training cannot be read",
            where=record,
            seen=repr(error),
            needed=f"what the training wrote: the numbers of {path.name}",
            cause="it was altered or copied incompletely after the training: copy it again",
        ) from error
    return checked_digest(path, needed, remedy=f"copy it again, together with {record.name}")


def checked_digest(path: Path, needed: str, *, remedy: str) -> str:
    """SHA-256 of a network; :class:`ModelError` where it is not the one of its training."""
    seen = digest(path)
    if seen != needed:
        raise ModelError(
            "the network is not the one that was trained",
            where=path,
            seen=f"sha256 {seen}",
            needed=f"sha256 {needed}",
            cause=f"the file was altered or copied incompletely after the training; {remedy}",
        )
    return seen
