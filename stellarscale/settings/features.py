"""Settings of the features of a star: bands, reddening, parallax, colours, classes."""

from __future__ import annotations

from pydantic import Field, model_validator

from stellarscale.schema import Frozen


class Band(Frozen):
    """A photometric band: its columns, extinction coefficient and error cuts (paper I, Tables 1 and 2)."""

    mag: str
    err: str | None = None
    extinction: float = Field(0.0, description="R = A / E(B-V), E(B-V) as in SFD98, unscaled")
    train_err: float | None = Field(None, gt=0)
    predict_err: float | None = Field(None, gt=0)


class Reddening(Frozen):
    """Where E(B-V) comes from: exactly one of the three."""

    column: str | None = None
    sfd98: str | None = Field(None, description="directory of SFD_dust_4096_ngp.fits and _sgp.fits")
    value: float | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Reddening:
        if sum(item is not None for item in (self.column, self.sfd98, self.value)) != 1:
            raise ValueError("give exactly one of `column`, `sfd98`, `value`")
        return self


class Parallax(Frozen):
    """Parallax columns (mas) and the smallest parallax/error that training and prediction accept."""

    value: str
    error: str
    train_snr: float | None = None
    predict_snr: float | None = None


class ClassRule(Frozen):
    """A region of the colour - absolute magnitude diagram; the first rule that holds names the class.

    ``fainter_than`` and ``brighter_than`` are polynomials in the colour, lowest power first: the absolute magnitude
    must be above (fainter) or below (brighter) their value.
    """

    name: str
    code: int
    colour: tuple[float, float] | None = None
    absolute: tuple[float, float] | None = None
    fainter_than: tuple[float, ...] | None = None
    brighter_than: tuple[float, ...] | None = None


class Classes(Frozen):
    """How stars are sorted into classes (paper I, Fig. 1)."""

    colour: str = Field("bp-rp", description="two bands, dereddened")
    absolute: str = Field("g", description="band of the absolute magnitude")
    rules: tuple[ClassRule, ...]
    likely_giant: str | None = Field(
        None, description="class of stars whose parallax error exceeds the parallax; null: such stars get no class"
    )


class FeatureConfig(Frozen):
    """Everything that makes features out of a matched row."""

    bands: dict[str, Band] = Field(default_factory=dict)
    ebv: Reddening | None = None
    ebv_max_train: float | None = None
    ebv_max_predict: float | None = None
    parallax: Parallax | None = None
    colours: tuple[str, ...] = Field((), description="pairs of bands, e.g. `u-v`; made of dereddened magnitudes")
    absolute: tuple[str, ...] = Field((), description="bands that get an absolute magnitude")
    classes: Classes | None = None

    @model_validator(mode="after")
    def _bands_exist(self) -> FeatureConfig:
        pairs = [*self.colours, *([self.classes.colour] if self.classes else [])]
        named = [band for pair in pairs for band in pair.split("-")] + list(self.absolute)
        named += [self.classes.absolute] if self.classes else []
        unknown = sorted(set(named) - set(self.bands))
        if unknown:
            raise ValueError(f"bands named but not declared: {', '.join(unknown)} (declared: {', '.join(self.bands)})")
        if (self.absolute or self.classes) and self.parallax is None:
            raise ValueError("absolute magnitudes and classes need `parallax`")
        return self
