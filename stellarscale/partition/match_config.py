"""Settings of a cross-match, and the margin that follows from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from stellarscale.errors import ConfigError
from stellarscale.kernels.match import KEEPS, Keep

Range = tuple[float, float]


@dataclass(frozen=True)
class SkyColumns:
    """Which columns of a table hold what a match reads.

    Parameters
    ----------
    id : str, optional
        Identifier; carried along, the match does not need it.
    ra, dec : str
        Position in degrees.
    pmra, pmdec : str, optional
        Proper motion in mas/yr, pmra including cos(dec); both or neither.
    epoch : str, optional
        Epoch of the position of each row, Julian years.
    epoch_yr : float, optional
        Epoch of the rows whose `epoch` is null, or of all when there is no such column.
    """

    id: str | None = None
    ra: str = "ra"
    dec: str = "dec"
    pmra: str | None = None
    pmdec: str | None = None
    epoch: str | None = None
    epoch_yr: float | None = None

    @property
    def moves(self) -> bool:
        """Whether the rows carry proper motions."""
        return self.pmra is not None

    @property
    def dated(self) -> bool:
        """Whether the epoch of the rows is known."""
        return self.epoch is not None or self.epoch_yr is not None

    @property
    def names(self) -> list[str]:
        """Columns that a match reads."""
        given = (self.ra, self.dec, self.pmra, self.pmdec, self.epoch)
        return [name for name in dict.fromkeys(given) if name is not None]


@dataclass(frozen=True)
class MatchConfig:
    """What to match and how.

    Parameters
    ----------
    radius_arcsec : float
        Largest separation of a pair, counted.
    keep : {'nearest', 'all', 'mutual'}
        Pairs to keep of each left row; 'mutual' also asks that the left row is the nearest to its right row.
    how : {'inner', 'left'}
        'left' keeps unmatched left rows once, with nulls on the right.
    epoch : None, float or 'rows'
        None: positions as they are. A year: every side that carries proper motions is moved there from its
        own epoch, a side without stays. 'rows': the side that carries motions (the right one when both do)
        is moved to the epoch of each row of the other side. A missing motion counts as zero and is flagged.
    right_prefix, pair_prefix : str
        Put before the names of the right columns, and of the columns about the pair.
    left, right : SkyColumns

    Raises
    ------
    ConfigError
        If a setting is out of its range, or columns that the epoch needs are not named.
    """

    radius_arcsec: float
    keep: Keep = "nearest"
    how: Literal["inner", "left"] = "inner"
    epoch: float | Literal["rows"] | None = None
    right_prefix: str = ""
    pair_prefix: str = ""
    left: SkyColumns = field(default_factory=SkyColumns)
    right: SkyColumns = field(default_factory=SkyColumns)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius_arcsec) and self.radius_arcsec > 0):
            raise ConfigError("the match radius is no angle", seen=self.radius_arcsec, needed="above 0 arcsec")
        for name, value, allowed in (("keep", self.keep, KEEPS), ("how", self.how, ("inner", "left"))):
            if value not in allowed:
                raise ConfigError(f"unknown `{name}`", seen=value, needed=" or ".join(allowed))
        for name, side in (("left", self.left), ("right", self.right)):
            if (side.pmra is None) != (side.pmdec is None):
                raise ConfigError("pmra and pmdec go together", where=f"{name} catalogue", seen=side)
        if self.epoch is not None:
            _check_epoch(self)

    @property
    def movers(self) -> tuple[str, ...]:
        """The sides that are moved."""
        if self.epoch is None:
            return ()
        moving = tuple(name for name in ("left", "right") if getattr(self, name).moves)
        return moving[-1:] if self.epoch == "rows" else moving


def _check_epoch(config: MatchConfig) -> None:
    if config.epoch != "rows" and not (isinstance(config.epoch, int | float) and math.isfinite(config.epoch)):
        raise ConfigError("unknown `epoch`", seen=config.epoch, needed="a year, 'rows' or nothing")
    if not config.movers:
        raise ConfigError(
            "an epoch was asked for, but neither catalogue carries proper motions",
            seen=config.epoch,
            needed="pmra and pmdec columns on one side",
        )
    for name in ("left", "right") if config.epoch == "rows" else config.movers:
        if not getattr(config, name).dated:
            raise ConfigError(
                "the epoch of the positions is not known",
                where=f"{name} catalogue",
                needed="an epoch column or an epoch in years",
            )


def margin_arcsec(
    config: MatchConfig,
    left_pm_max_masyr: float | None,
    right_pm_max_masyr: float | None,
    left_epoch_range: Range | None,
    right_epoch_range: Range | None,
) -> float:
    """How far from a left row, in raw positions, a right row that matches it can lie.

    Parameters
    ----------
    config : MatchConfig
    left_pm_max_masyr, right_pm_max_masyr : float or None
        Largest total proper motion on each side; only that of a side that is moved is read.
    left_epoch_range, right_epoch_range : (float, float) or None
        First and last epoch on each side, Julian years.

    Returns
    -------
    float
        Radius plus the largest motions over the largest epoch differences, and a safety of 1 % + 0.1 arcsec.

    Raises
    ------
    ConfigError
        If a number that the config's epoch needs is None.
    """
    motions = {"left": left_pm_max_masyr, "right": right_pm_max_masyr}
    epochs = {
        "left": _with_default(left_epoch_range, config.left),
        "right": _with_default(right_epoch_range, config.right),
    }
    reach = config.radius_arcsec
    for name in config.movers:
        other = "right" if name == "left" else "left"
        goal = (config.epoch, config.epoch) if isinstance(config.epoch, int | float) else epochs[other]
        own, motion = epochs[name], motions[name]
        if own is None or goal is None or motion is None:
            raise ConfigError("the margin of a moving match needs the largest motion and the epochs", where=name)
        years = max(abs(goal[1] - own[0]), abs(own[1] - goal[0]))
        reach += motion * 1e-3 * years
    return 1.01 * reach + 0.1


def _with_default(epochs: Range | None, columns: SkyColumns) -> Range | None:
    """The range of epochs, with the one of the rows that have none of their own."""
    if columns.epoch_yr is None:
        return epochs
    low, high = epochs or (columns.epoch_yr, columns.epoch_yr)
    return min(low, columns.epoch_yr), max(high, columns.epoch_yr)
