"""The one table of quality flags: the source of the code, of the schemas and of the documentation.

A row's ``quality_flags`` (int32) is the sum of the bits that apply. Bits 0-7 are set while a survey is imported, bits
8-15 by the features, bits 16-29 by the prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

COLUMN = "quality_flags"


class Flag(IntFlag):
    """Bits of ``quality_flags``."""

    SENTINEL_NULL = 1 << 0
    UPPER_LIMIT = 1 << 1
    SURVEY_FLAG = 1 << 2
    DUPLICATE_ID = 1 << 3
    BLEND = 1 << 4
    OUT_OF_RANGE = 1 << 5
    NOT_POSITIVE_FLUX = 1 << 6
    MASKED_PIXELS = 1 << 7
    HIGH_EXTINCTION = 1 << 8
    LOW_PARALLAX_SNR = 1 << 9
    CLASS_BY_PARALLAX_LIMIT = 1 << 10
    MISSING_FEATURE = 1 << 11
    FAILED_CUT = 1 << 12
    BEYOND_COLOUR_LIMIT = 1 << 16
    NO_MODEL_FOR_CLASS = 1 << 17
    EXTRAPOLATED = 1 << 18
    EDGE_OF_GRID = 1 << 19
    BAD_FIT = 1 << 20
    LOW_SNR = 1 << 21
    TOO_FEW_PIXELS = 1 << 22
    RV_AT_LIMIT = 1 << 23
    INCOMPLETE_BANDS = 1 << 24
    MISSING_PIXELS = 1 << 25
    SATURATED = 1 << 26
    OUTSIDE_TEFF_RANGE = 1 << 27
    OUTSIDE_LOGG_RANGE = 1 << 28
    OUTSIDE_FE_H_RANGE = 1 << 29


@dataclass(frozen=True, order=True)
class FlagRow:
    """One line of the flag table."""

    bit: int
    name: str
    description: str


DESCRIPTIONS = {
    Flag.SENTINEL_NULL: "at least one value was the survey's sentinel for 'missing' and is null here",
    Flag.UPPER_LIMIT: "at least one magnitude is an upper limit (its error is null)",
    Flag.SURVEY_FLAG: "the survey's own flags mark the photometry or the parameters of this row as unreliable",
    Flag.DUPLICATE_ID: "another row of the same survey carries the same id",
    Flag.BLEND: "the survey marks this source as blended or contaminated",
    Flag.OUT_OF_RANGE: "a value lay outside the range its schema allows and is null here",
    Flag.NOT_POSITIVE_FLUX: (
        "the median flux of the spectrum, or its weighted mean in the compared wavelengths, is not positive"
    ),
    Flag.MASKED_PIXELS: "more than half of the spectrum's pixels carry no information (masked, or no inverse variance)",
    Flag.HIGH_EXTINCTION: "E(B-V) is above the limit of the prediction cut",
    Flag.LOW_PARALLAX_SNR: "parallax over its error is below the limit of the prediction cut",
    Flag.CLASS_BY_PARALLAX_LIMIT: "called a giant only because the parallax error exceeds the parallax",
    Flag.MISSING_FEATURE: "a feature that the model needs is missing, so no parameter is given",
    Flag.FAILED_CUT: "a magnitude error is above the limit of the prediction cut",
    Flag.BEYOND_COLOUR_LIMIT: "redder than the training range: the parameters are blanked",
    Flag.NO_MODEL_FOR_CLASS: "the star's class (hot subdwarf, white dwarf) has no trained model for some parameter",
    Flag.EXTRAPOLATED: (
        "outside of the training sample of a model that served the star: the parameters are extrapolated"
    ),
    Flag.EDGE_OF_GRID: "the best references lie at the edge of the reference grid: the parameters are drawn inwards",
    Flag.BAD_FIT: "no combination of references fits the spectrum: its reduced chi-square is above the job's limit",
    Flag.LOW_SNR: "the signal to noise of the spectrum is below the job's limit",
    Flag.TOO_FEW_PIXELS: "too few pixels with information in the fitted wavelengths, so no parameter is given",
    Flag.RV_AT_LIMIT: "the refined radial velocity lies at the end of its search range",
    Flag.INCOMPLETE_BANDS: (
        "a band has no usable image, too few of its pixels or not the star's own, so no parameter is given"
    ),
    Flag.MISSING_PIXELS: "some pixels of the stamp are covered by no detection of their band",
    Flag.SATURATED: "pixels of the stamp are saturated in some detection; they are left out of the mean",
    Flag.OUTSIDE_TEFF_RANGE: "the effective temperature lies outside the range in which the job trusts it",
    Flag.OUTSIDE_LOGG_RANGE: "log g lies outside the range in which the job trusts it",
    Flag.OUTSIDE_FE_H_RANGE: "[Fe/H] lies outside the range in which the job trusts it",
}


def flag_table() -> list[FlagRow]:
    """Return the flag table ordered by bit: one row per flag, with bit number, name and description."""
    return [FlagRow(int(flag).bit_length() - 1, flag.name or "", DESCRIPTIONS[flag]) for flag in Flag]


def decode(value: int) -> list[str]:
    """Names of the flags set in one ``quality_flags`` value, lowest bit first.

    Raises
    ------
    ValueError
        If a bit is set that the table does not know.
    """
    unknown = int(value) & ~sum(int(flag) for flag in Flag)
    if value < 0 or unknown:
        raise ValueError(f"quality_flags value {value} has bits {unknown:#x} that the flag table does not know")
    return [flag.name or "" for flag in Flag if value & flag]
