"""Settings of the network on images: its shape, its training, its prediction."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stellarscale.frozen import Frozen


def _require_positive(name: str, values: tuple[int, ...]) -> None:
    if min(values) < 1:
        raise ValueError(f"`{name}` {', '.join(map(str, values))} must be 1 or more")


class Backbone(Frozen):
    """The CSWin transformer (paper III, section 3.1.4); the defaults are the paper's."""

    stem_kernel: int = Field(7, ge=3, description="of the first convolution, stride 2")
    depths: tuple[int, ...] = Field((2, 4, 32, 2), min_length=1, description="blocks of each stage")
    channels: tuple[int, ...] = Field((64, 128, 256, 512), description="of each stage")
    heads: tuple[int, ...] = Field((2, 4, 8, 16), description="of each stage, half of them for each direction")
    stripes: tuple[int, ...] = Field((1, 2, 3, 3), description="stripe width of each stage, tokens")
    merge_norm: bool = Field(
        True,
        description="LayerNorm of the map that each stage begins with; false: a narrow network keeps how bright a star "
        "is, which it would have to learn around",
    )
    mlp_ratio: float = Field(4.0, gt=0, description="hidden units of a block's dense layers over its channels")
    initial_std: float | None = Field(
        0.02,
        gt=0,
        description="deviation of the first weights of dense layers, the head's too; null: 1/sqrt(inputs), without "
        "which narrow networks learn slowly",
    )

    @model_validator(mode="after")
    def _stages_agree(self) -> Backbone:
        if len({len(self.depths), len(self.channels), len(self.heads), len(self.stripes)}) > 1:
            raise ValueError("depths, channels, heads and stripes must have one value for each stage")
        for name in ("depths", "channels", "heads", "stripes"):
            _require_positive(name, getattr(self, name))
        for channels, heads in zip(self.channels, self.heads, strict=True):
            if channels % heads or (heads % 2 and heads != 1):
                raise ValueError(f"{channels} channels cannot be shared by {heads} heads in two directions")
        return self


class Head(Frozen):
    """Parallax branch and dropout head (paper III, sections 3.2 and 3.3)."""

    parallax_units: int = Field(128, ge=1, description="of the dense layer that parallax and error go through")
    parallax_input: Literal["linear", "log"] = Field(
        "linear", description="standardised parallax and error, or log10 of the parallax and relative error"
    )
    hidden: tuple[int, ...] = Field((256, 64), min_length=1, description="units between the features and the output")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of inputs dropped at each dense layer, also predicting")

    @model_validator(mode="after")
    def _has_units(self) -> Head:
        _require_positive("hidden", self.hidden)
        return self


class ImageNetwork(Frozen):
    """The whole network."""

    backbone: Backbone = Backbone()
    head: Head = Head()
    bands: Literal["scaled", "components"] = Field(
        "scaled",
        description="pixels of each band scaled to deviation one, or their principal components, in which colours are "
        "as large as brightness and small networks learn sooner",
    )
    parallax: bool = Field(True, description="false: the image alone (the paper's ACPF)")
    joint: bool = Field(False, description="one network with an output for each label, instead of one network each")


class ImageTraining(Frozen):
    """The training (paper III, section 3.4); the defaults are the paper's."""

    epochs: int = Field(300, ge=1, description="passes over the training stars")
    batch_size: int = Field(128, ge=2, description="stars per step, over all devices")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam at the start")
    betas: tuple[float, float] = Field((0.99, 0.999), description="of Adam")
    decay: float = Field(0.8, gt=0, le=1, description="what the learning rate is multiplied by every `decay_epochs`")
    decay_epochs: int = Field(50, ge=1, description="epochs between two decays")
    schedule: Literal["step", "cosine"] = Field(
        "step", description="the paper's steps, or a rise over a twentieth of the steps and a fall along a cosine"
    )
    weight_decay: float = Field(5e-5, ge=0, description="L2 penalty, as Adam has it")
    augment: bool = Field(True, description="one of the eight rotations and flips for each star and epoch")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on a GPU that has it, else fp32")
    devices: int | Literal["auto"] = Field(
        "auto", description="processes with a device each; auto: every GPU of the machine, else the CPU"
    )
    checkpoint_epochs: int = Field(5, ge=1, description="most epochs between two checkpoints")
    keep: Literal["last", "best"] = Field(
        "last",
        description="weights of the last epoch, or of the least loss of the validation; the errors are calibrated on "
        "its stars too and are a little small then",
    )
    early_look: int = Field(10, ge=0, description="epoch after which residuals of the validation are told; 0: never")
    split: tuple[float, float, float] = Field(
        (0.8, 0.1, 0.1), description="shares of labelled stars: training, validation (errors are calibrated on), test"
    )
    without_parallax: bool = Field(False, description="train the same without parallax besides, for the comparison")

    @model_validator(mode="after")
    def _within_range(self) -> ImageTraining:
        if abs(sum(self.split) - 1.0) > 1e-9 or min(self.split) < 0 or not self.split[0]:
            raise ValueError(f"`split` {self.split} must be three shares that make 1, with some stars to train on")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`betas` {self.betas} must be at least 0 and less than 1")
        if self.devices != "auto":
            _require_positive("devices", (self.devices,))
        return self


class ImagePrediction(Frozen):
    """The prediction."""

    samples: int = Field(256, ge=2, description="networks drawn by dropout, each predicting every star")
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        "auto", description="stars per pass, auto: 1024 on a GPU, 256 on a CPU; results depend on it by rounding alone"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="of the backbone; auto: bf16 where the device is faster with it, else fp32"
    )
    compile: bool = Field(False, description="compile the backbone by torch.compile: pays on long runs")
