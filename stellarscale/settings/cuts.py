"""Cuts of rows as a job states them, the selection of stars, and the stratified sample."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen


class Cut(Frozen):
    """A condition that a row must fulfil to be kept; with several columns every one of them must."""

    name: str = Field(pattern=r"^\w[\w-]*$", description="what counts of lost rows call it")
    columns: tuple[str, ...] = Field(min_length=1, description="columns of the matched table")
    over: str | None = Field(None, description="column that the values are divided by; not above 0: the cut fails")
    absolute: bool = Field(False, description="look at the absolute value")
    equals: float | None = Field(None, description="the value must be this")
    min: float | None = Field(None, description="the value must be at least this")
    max: float | None = Field(None, description="the value must be at most this")
    below: float | None = Field(None, description="the value must be less than this")
    above: float | None = Field(None, description="the value must be more than this")
    null: Literal["fail", "pass"] = Field("fail", description="what a missing value does")

    @property
    def tests(self) -> dict[str, float]:
        """The comparisons that are given."""
        given = {name: getattr(self, name) for name in ("equals", "min", "max", "below", "above")}
        return {name: value for name, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _has_a_test(self) -> Cut:
        if not self.tests:
            raise ValueError(f"the cut {self.name} compares with nothing: give equals, min, max, below or above")
        return self


class Strata(Frozen):
    """A sample that keeps one star in so many of each kind, in every partition of the sky."""

    keep_one_in: int = Field(9, ge=1, description="stars for each one that is kept")
    by: dict[str, tuple[float, ...]] = Field(
        default_factory=dict, description="column, or two with a minus between: edges of its classes"
    )


class Selection(Frozen):
    """Which stars get parameters (paper III, sections 2.2, 5.4 and 6)."""

    cuts: tuple[Cut, ...] = ()
    relaxed: tuple[str, ...] = Field((), description="cuts that a star of the low-quality sample may fail")
    quality: Literal["high", "low", "all"] = Field(
        "high", description="stars that pass every cut, those that fail only relaxed ones, or both"
    )
    strata: Strata | None = Field(None, description="null: every star; stars with labels are not thinned")

    @model_validator(mode="after")
    def _relaxed_exist(self) -> Selection:
        names = [cut.name for cut in self.cuts]
        if len(set(names)) < len(names):
            raise ValueError(f"two cuts have one name: {', '.join(names)}")
        unknown = sorted(set(self.relaxed) - set(names))
        if unknown:
            raise ValueError(f"`relaxed` names cuts that there are not: {', '.join(unknown)}")
        if self.quality != "high" and not self.relaxed:
            raise ValueError(f"quality {self.quality!r} needs `relaxed`, the cuts that such stars may fail")
        return self
