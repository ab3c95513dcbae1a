"""Settings of the features of a star: bands, reddening, parallax, colours, classes."""

from __future__ import annotations

from pydantic import Field, model_validator

from stellarscale.schema import Frozen


class Band(Frozen):
    """A photometric band: its columns, extinction coefficient and error cuts (paper I, Tables 1 and 2)."""

    mag: str = Field(description="column of the magnitude")
    err: str | None = Field(None, description="column of its error")
    extinction: float = Field(0.0, description="R = A / E(B-V), E(B-V) as in SFD98, unscaled")
    train_err: float | None = Field(None, gt=0, description="largest error of a training star, mag")
    predict_err: float | None = Field(None, gt=0, description="largest error of a star that gets parameters, mag")


class Reddening(Frozen):
    """Where E(B-V) comes from: exactly one of the three."""

    column: str | None = Field(None, description="column of E(B-V)")
    sfd98: str | None = Field(None, description="directory of SFD_dust_4096_ngp.fits and _sgp.fits")
    value: float | None = Field(None, description="one E(B-V) for all stars")

    @model_validator(mode="after")
    def _exactly_one(self) -> Reddening:
        if sum(item is not None for item in (self.column, self.sfd98, self.value)) != 1:
            raise ValueError("give exactly one of `column`, `sfd98`, `value`")
        return self


class Parallax(Frozen):
    """Parallax columns (mas) and the smallest parallax/error that training and prediction accept."""

    value: str = Field(description="column of the parallax, mas")
    error: str = Field(description="column of its error, mas")
    train_snr: float | None = Field(None, description="least parallax over error of a training star")
    predict_snr: float | None = Field(None, description="least parallax over error of a star that gets parameters")


class ClassRule(Frozen):
    """A region of the colour - absolute magnitude diagram; the first rule that holds names the class.

    ``fainter_than`` and ``brighter_than`` are polynomials in the colour, lowest power first: the absolute magnitude
    must be above (fainter) or below (brighter) their value.
    """

    name: str = Field(description="name of the class")
    code: int = Field(description="its number in `class_code`")
    colour: tuple[float, float] | None = Field(None, description="range of the colour")
    absolute: tuple[float, float] | None = Field(None, description="range of the absolute magnitude")
    fainter_than: tuple[float, ...] | None = Field(None, description="polynomial in the colour, lowest power first")
    brighter_than: tuple[float, ...] | None = Field(None, description="polynomial in the colour, lowest power first")


class Classes(Frozen):
    """How stars are sorted into classes (paper I, Fig. 1)."""

    colour: str = Field("bp-rp", description="two bands, dereddened")
    absolute: str = Field("g", description="band of the absolute magnitude")
    rules: tuple[ClassRule, ...] = Field(description="the first rule that holds names the class")
    likely_giant: str | None = Field(
        None, description="class of stars whose parallax error exceeds the parallax; null: such stars get no class"
    )


class FeatureConfig(Frozen):
    """Everything that makes features out of a matched row."""

    bands: dict[str, Band] = Field(default_factory=dict)
    ebv: Reddening | None = None
    ebv_max_train: float | None = Field(None, description="largest E(B-V) of a training star")
    ebv_max_predict: float | None = Field(None, description="largest E(B-V) of a star that gets parameters")
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
