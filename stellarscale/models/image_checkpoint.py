"""How far a training has come, in one safetensors file: weights, Adam's state, the curve; nothing that could run.

The random draws of a training depend on epoch, batch and star alone, so that no state of a generator is needed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stellarscale.errors import ModelError
from stellarscale.models.whole_file import whole_file

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

FORMAT_VERSION = 1
ENDING = ".checkpoint.safetensors"

_VERSION, _STATE = "stellarscale_checkpoint", "stellarscale_training"  # keys of the file's metadata
_WEIGHTS, _ADAM, _BEST = "weights", "adam", "best"  # begin the names of the tensors


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A training after some epochs.

    Attributes
    ----------
    digest : str
        Of the settings and stars that decide what comes of it.
    curve : sequence of dict
        A record of each epoch that is finished.
    seconds : float
        That it has taken.
    weights : Mapping of str to Tensor
        Of the network.
    adam : Mapping of str to Tensor
        Adam's state: ``<weight>.<step, exp_avg or exp_avg_sq>``.
    best : Mapping of str to Tensor
        Weights of the epoch with the least loss; empty where the last ones are kept.
    """

    digest: str
    curve: Sequence[Mapping[str, Any]]
    seconds: float
    weights: Mapping[str, Tensor]
    adam: Mapping[str, Tensor]
    best: Mapping[str, Tensor] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; whoever reads finds the one before or this one, whole."""
    from safetensors.torch import save_file

    parts = {_WEIGHTS: checkpoint.weights, _ADAM: checkpoint.adam, _BEST: checkpoint.best}
    tensors = {
        f"{part}/{name}": tensor.detach().cpu().contiguous()
        for part, named in parts.items()
        for name, tensor in named.items()
    }
    state = {"digest": checkpoint.digest, "curve": list(checkpoint.curve), "seconds": checkpoint.seconds}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, metadata={_VERSION: str(FORMAT_VERSION), _STATE: json.dumps(state)})


def load_checkpoint(path: Path, *, digest: str) -> Checkpoint | None:
    """The checkpoint of a training; None where it has none yet.

    Raises
    ------
    ModelError
        If the file is damaged, of another version, or of a training with other settings or stars.
    """
    if not path.exists():
        return None
    metadata, tensors = _read(path)
    try:
        state = json.loads(metadata[_STATE])
        seen, curve, seconds = state["digest"], state["curve"], float(state["seconds"])
    except (KeyError, ValueError, TypeError) as error:
        raise _unusable(path, repr(error)) from error
    if metadata.get(_VERSION) != str(FORMAT_VERSION):
        raise _unusable(path, f"version {metadata.get(_VERSION)}, not {FORMAT_VERSION}")
    if seen != digest:
        raise ModelError(
            "the checkpoint is of another training",
            where=path,
            seen=f"digest {seen[:12]}",
            needed=f"digest {digest[:12]}: the same settings, seed and stars",
            cause="the job or its stars changed since; remove the checkpoint to train anew",
        )
    parts: dict[str, dict[str, Tensor]] = {_WEIGHTS: {}, _ADAM: {}, _BEST: {}}
    for key, tensor in tensors.items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = tensor
    return Checkpoint(seen, curve, seconds, parts[_WEIGHTS], parts[_ADAM], parts[_BEST])


def adam_state(optimiser: Optimizer, names: Sequence[str]) -> dict[str, Tensor]:
    """Adam's state by the names of the parameters, in the order in which it has them; empty before the first step."""
    state = optimiser.state_dict()["state"]
    return {f"{names[number]}.{key}": value for number, values in state.items() for key, value in values.items()}


def restore_adam(optimiser: Optimizer, names: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """Give Adam the state that :func:`adam_state` told."""
    numbers = {name: number for number, name in enumerate(names)}
    restored: dict[int, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        name, _, kind = key.rpartition(".")
        restored.setdefault(numbers[name], {})[kind] = tensor
    optimiser.load_state_dict({"state": restored, "param_groups": optimiser.state_dict()["param_groups"]})


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            # Copied: what is mapped would change under the training when the next checkpoint takes the file's place.
            return dict(file.metadata() or {}), {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, seen: object) -> ModelError:
    return ModelError(
        "the checkpoint of a training cannot be used",
        where=path,
        seen=seen,
        needed="a whole file of this version",
        cause="it was cut short or altered; remove it to train this network anew",
    )
