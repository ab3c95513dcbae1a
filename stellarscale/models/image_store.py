"""Networks on images on disk: one safetensors file, weights and a description in JSON, nothing that could run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stellarscale.errors import ConfigError, ModelError
from stellarscale.models.image_inputs import ImageScaling
from stellarscale.models.network import require_torch
from stellarscale.models.store import digest
from stellarscale.models.whole_file import whole_file
from stellarscale.settings.image_network import ImageNetwork
from stellarscale.stamp_columns import StampFormat

if TYPE_CHECKING:
    from torch import Tensor

    from stellarscale.models.image_network import ImageRegressor

FORMAT_VERSION = 1

_MODEL = "stellarscale_model"  # key of the file's metadata; safetensors writes several in any order
_FORMAT = "format"  # key of the version, in the record there
_TOLD = 3  # tensors that an error names
_CAUSE_DAMAGED = "the file was cut short or altered after it was written, or is not a network of stellarscale"


@dataclass(frozen=True)
class ImageModel:
    """What a stored network predicts, from what, and where it comes from.

    Attributes
    ----------
    labels, units : tuple of str
        Predicted parameters in the order of the outputs, and their units.
    network : ImageNetwork
        Its shape.
    stamps : StampFormat
        What it looks at; how pixels are stored (``dtype``) does not matter to it.
    scaling : ImageScaling
        Of inputs and labels.
    n_train : int
        Stars that trained it.
    seed : int
        Seed of the job that trained it.
    config_digest : str
        Digest of the settings that decided what it says.
    versions : Mapping
        Of the packages that trained it.
    """

    labels: tuple[str, ...]
    units: tuple[str, ...]
    network: ImageNetwork
    stamps: StampFormat
    scaling: ImageScaling
    n_train: int = 0
    seed: int = 0
    config_digest: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The record and the version of its format as JSON with sorted keys."""
        record = asdict(self) | {"network": self.network.model_dump(mode="json"), _FORMAT: FORMAT_VERSION}
        return json.dumps(record, sort_keys=True, allow_nan=False)

    @classmethod
    def from_json(cls, text: str, *, where: object = None) -> ImageModel:
        """Read what :meth:`to_json` wrote; ``where`` is the file, for errors.

        Raises
        ------
        ModelError
            If the record is of another version.
        ValueError, TypeError, KeyError, AttributeError
            If the text is not such a record.
        """
        record = json.loads(text)
        version = record.pop(_FORMAT)
        if version != FORMAT_VERSION:
            cause = "it was written by another version of stellarscale: train again"
            raise ModelError("another format version", where=where, seen=version, needed=FORMAT_VERSION, cause=cause)
        parts = {
            "labels": tuple(record["labels"]),
            "units": tuple(record["units"]),
            "network": ImageNetwork.model_validate(record["network"]),
            "stamps": StampFormat(**_tuples(record["stamps"])),
            "scaling": ImageScaling(**_tuples(record["scaling"])),
        }
        return cls(**{**record, **parts})


def save_image_model(path: str | os.PathLike[str], weights: Mapping[str, Tensor], model: ImageModel) -> str:
    """Write a network atomically: a reader sees the old file or the whole new one.

    Parameters
    ----------
    path : path-like
        Ends in ``.safetensors``.
    weights : Mapping of name to float32 tensor
        ``state_dict()`` of the network.
    model : ImageModel

    Returns
    -------
    str
        SHA-256 of the file, to be given to :func:`load_image_model`.

    Raises
    ------
    ModelError
        If torch is not installed, the weights do not fit the model, or one of them is not finite.
    """
    require_torch()
    from safetensors.torch import save_file

    target = Path(path)
    _check_weights(weights, model, target)
    cause = "the training diverged: a lower learning rate helps, or bf16 instead of fp32 was too coarse"
    _check_finite(weights, target, cause=cause)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with whole_file(target) as temporary:
        save_file(whole, temporary, metadata={_MODEL: model.to_json()})
    return digest(target)


def load_image_model(
    path: str | os.PathLike[str], *, expect_digest: str | None = None
) -> tuple[ImageModel, dict[str, Tensor]]:
    """Open a network; its weights are mapped, so that the workers of a host share one copy.

    Parameters
    ----------
    path : path-like
        File written by :func:`save_image_model`.
    expect_digest : str, optional
        SHA-256 that the file must have.

    Raises
    ------
    ModelError
        If torch is not installed, or the file is missing, damaged, of another format version, not the one expected,
        or holds weights that are not finite or do not fit the network it describes.
    """
    require_torch()
    where = Path(path)
    if expect_digest is not None and (seen := digest(where)) != expect_digest:
        raise ModelError(
            "The model file is not the one that was asked for",
            where=where,
            seen=f"sha256 {seen}",
            needed=f"sha256 {expect_digest}",
            cause="the model was trained again, or the file was altered, since the job was planned",
        )
    metadata, weights = _read(where)
    try:
        model = ImageModel.from_json(metadata[_MODEL], where=where)
    except ModelError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(
            "the model file does not say what its network is", where=where, seen=repr(error), cause=_CAUSE_DAMAGED
        ) from error
    _check_weights(weights, model, where)
    _check_finite(weights, where, cause=_CAUSE_DAMAGED)
    return model, weights


def restore_network(model: ImageModel, weights: Mapping[str, Tensor]) -> ImageRegressor:
    """The network of a stored model, on the CPU, in evaluation mode; it takes the weights without a copy."""
    network = _empty(model)
    network.load_state_dict(dict(weights), assign=True)
    return network.eval()


def check_stamps(model: ImageModel, layout: StampFormat, *, where: object = None) -> None:
    """Refuse stamps that a network was not trained on.

    Raises
    ------
    ModelError
        If bands, size, stretch, zero-point or dereddening differ: each of them, as seen and as needed.
    """
    names = [each.name for each in fields(StampFormat) if each.name != "dtype"]
    differing = [name for name in names if getattr(layout, name) != getattr(model.stamps, name)]
    if differing:
        raise ModelError(
            "the stamps are not of the kind that the network was trained on",
            where=where,
            seen=", ".join(f"{name} {getattr(layout, name)}" for name in differing),
            needed=", ".join(f"{name} {getattr(model.stamps, name)}" for name in differing),
            cause="stamps and network come from jobs with different `stamps` settings",
        )


def check_labels(model: ImageModel, units: Mapping[str, str], *, where: object = None) -> None:
    """Refuse a network for other labels, or labels in other units, than the job wants from it.

    Parameters
    ----------
    model : ImageModel
    units : Mapping of str to str
        Labels that this network is to give, in any order, and their units.
    where : object, optional
        The file, for the error.

    Raises
    ------
    ModelError
        If they differ.
    """
    own = dict(zip(model.labels, model.units, strict=True))
    if own != dict(units):
        seen, needed = (", ".join(f"{label} ({unit or 'dex'})" for label, unit in m.items()) for m in (own, units))
        cause = "the network was trained by another job, or copied under another name"
        raise ModelError(
            "the network gives other labels than the job", where=where, seen=seen, needed=needed, cause=cause
        )


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        if not path.stat().st_size:
            raise ModelError("the model file is empty", where=path, cause="its writing was interrupted: copy it again")
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        cause = "wrong path, or not trained yet"
        raise ModelError("the model file cannot be read", where=path, seen=error.strerror, cause=cause) from error
    except SafetensorError as error:
        raise ModelError(
            "the model file is damaged", where=path, seen=error, needed="a whole safetensors file", cause=_CAUSE_DAMAGED
        ) from error


def _check_weights(weights: Mapping[str, Tensor], model: ImageModel, where: Path) -> None:
    """Refuse weights that are not those of the network that the model describes."""
    needed = {name: _kind(tensor) for name, tensor in _empty(model, where).state_dict().items()}
    seen = {name: _kind(tensor) for name, tensor in weights.items()}
    missing, unexpected = sorted(set(needed) - set(seen)), sorted(set(seen) - set(needed))
    misshapen = [
        f"{name} {seen[name]} instead of {needed[name]}"
        for name in needed
        if seen.get(name, needed[name]) != needed[name]
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another kind": misshapen}
    if any(problems.values()):
        raise ModelError(
            "the weights do not fit the network",
            where=where,
            seen="; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names),
            needed=f"{len(needed)} tensors of the network that the file describes",
            cause="weights of another configuration, or of another program",
        )


def _check_finite(weights: Mapping[str, Tensor], where: Path, *, cause: str) -> None:
    import torch

    wild = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if wild:
        raise ModelError("weights that are not finite", where=where, seen=_some(wild), needed="numbers", cause=cause)


def _empty(model: ImageModel, where: Path | None = None) -> ImageRegressor:
    from stellarscale.models.image_network import empty_network

    bands, size_px, _ = model.stamps.shape
    try:
        return empty_network(model.network, n_bands=bands, size_px=size_px, n_outputs=len(model.labels))
    except ConfigError as error:
        raise ModelError(
            "the network cannot look at its stamps", where=where, seen=error, cause=_CAUSE_DAMAGED
        ) from error


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:_TOLD]) + (", ..." if len(names) > _TOLD else "")


def _tuples(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(value) for name, value in record.items()}


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value
