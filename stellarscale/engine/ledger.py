"""Receipts: what is finished, so that a run that was killed goes on where it stopped.

A ledger is the hidden directory ``.stellarscale`` of the thing being made: ``run.json`` says with which settings, and
one receipt per finished task is written after the task's own file is in place. Only receipts are trusted.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import stellarscale
from stellarscale.catalog.atomic import atomic_write
from stellarscale.engine.lock import Lock
from stellarscale.errors import CatalogError, RunError

HIDDEN = ".stellarscale"


@dataclass(frozen=True)
class Ledger:
    """Receipts of one output directory; ``lock`` is held, as long as the ledger lives, by the process that writes."""

    out: Path
    lock: Lock | None = field(default=None, compare=False, repr=False)

    @property
    def root(self) -> Path:
        """The hidden directory."""
        return self.out / HIDDEN

    def run(self) -> dict[str, Any]:
        """Contents of ``run.json``; empty when there is none."""
        path = self.root / "run.json"
        return _read_json(path) if path.is_file() else {}

    @property
    def finished(self) -> dict[str, Any] | None:
        """Summary of the finished step, or None while work is missing."""
        return self.run().get("finished")

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary; from now on the step counts as done."""
        content = {**self.run(), "finished": summary, "finished_at": _now()}
        content.pop("process", None)
        self._write(content)

    @contextmanager
    def working(self, stage: str, tasks: int) -> Iterator[None]:
        """Note how many tasks a stage has and which process leads it, for ``status``; an exception ends the latter."""
        known = self.run()
        process = {"host": socket.gethostname(), "pid": os.getpid()}
        self._write({**known, "tasks": {**known.get("tasks", {}), stage: tasks}, "process": process})
        try:
            yield
        except BaseException:
            self.stopped()
            raise

    def stopped(self) -> None:
        """Nobody works here any more, though the step is not finished."""
        self._write({key: value for key, value in self.run().items() if key != "process"})

    def receipt_path(self, stage: str, key: str) -> Path:
        """Where the receipt of a task is."""
        return self.root / "receipts" / stage / f"{key.replace('/', '-')}.json"

    def receipts(self, stage: str) -> dict[str, dict[str, Any]]:
        """Every receipt of a stage by its task's key."""
        found = {}
        for path in sorted((self.root / "receipts" / stage).glob("*.json")):
            receipt = _read_json(path)
            found[receipt["key"]] = receipt
        return found

    def stages(self) -> list[str]:
        """Names of the stages that have receipts."""
        folder = self.root / "receipts"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def go_on_with(self, digest: str, about: dict[str, Any], *, stage: str, redo: Sequence[str]) -> None:
        """Take up the step with mended inputs: the receipts of the tasks that read them no longer count."""
        for key in redo:
            self.receipt_path(stage, key).unlink(missing_ok=True)
        self._write({**self.run(), "digest": digest, **about})

    def _write(self, content: dict[str, Any]) -> None:
        write_json(self.root / "run.json", content)


def open_ledger(
    out: Path, *, step: str, digest: str, about: dict[str, Any], fresh: bool = False, update: bool = False
) -> Ledger:
    """Claim an output directory for a step, or take up the same step where it stopped.

    Parameters
    ----------
    out : Path
        Directory to make.
    step : str
        Name of the step, for messages and ``status``.
    digest : str
        Digest of the settings and inputs; a directory made with another one is refused.
    about : dict
        What to write into ``run.json`` besides: settings, inputs with sizes, model digests.
    fresh : bool
        Throw away what an earlier run of ours left there.
    update : bool
        Throw it away only if it was made with other settings or inputs.

    Raises
    ------
    CatalogError
        If the directory holds something that this program, or this step of it, did not make, is mixed up with
        an input, or cannot be made.
    RunError
        If it holds the same step with other settings or inputs, or another process works on it.
    """
    keep_apart(out, [Path(item["path"]) for item in about.get("inputs", ())])
    ledger = Ledger(out)
    known = ledger.run()
    _check_free(out, known, step)
    if known:
        ledger = Ledger(out, Lock(ledger.root))
        known = ledger.run()  # it may have come to its end since
    _remove_leftovers(out)
    if known and (fresh or (update and known["digest"] != digest)):
        _remove(out)
        known = {}
    if known and known["digest"] != digest:
        raise RunError(
            f"the directory holds the step {step!r} made with other settings or inputs",
            where=out,
            seen=_differences(known, about) or f"digest {known['digest'][:12]}, now {digest[:12]}",
            needed="the same settings and inputs, or another --out",
            cause="the job, an input or the program changed since; --fresh starts over, run --update redoes that",
        )
    if not known:
        content = {"step": step, "digest": digest, "version": stellarscale.__version__, "started_at": _now()}
        try:
            ledger._write({**content, **about})
        except OSError as error:
            raise CatalogError(
                "the output directory cannot be made",
                where=out,
                seen=error.strerror or error,
                needed="a place where this user may write",
            ) from error
        ledger = Ledger(out, Lock(ledger.root))
    return ledger


def _remove(out: Path) -> None:
    """Throw a directory of ours away. Renamed first: a removal cut short must not look like somebody else's data."""
    out.rename(out.with_name(f"{_removed_name(out)}{uuid.uuid4().hex}"))
    _remove_leftovers(out)


def _remove_leftovers(out: Path) -> None:
    """Remove what an earlier removal that was killed has left."""
    if out.parent.is_dir():
        for doomed in out.parent.glob(f"{_removed_name(out)}*"):
            shutil.rmtree(doomed)


def _removed_name(out: Path) -> str:
    return f".{out.name}.removed-"


def keep_apart(out: Path, inputs: Sequence[Path]) -> None:
    """Refuse an output directory that holds an input, or lies in one: `--fresh` would delete it.

    Raises
    ------
    CatalogError
        Naming the input.
    """
    target = out.resolve()
    folders: dict[Path, Path] = {}
    for path in inputs:
        source = _resolved(path, folders)
        if source.is_relative_to(target) or (target.is_relative_to(source) and source.is_dir()):
            raise CatalogError(
                "the output directory and an input lie one in the other; nothing was touched",
                where=out,
                seen=f"input {source}",
                needed="an output directory of its own",
            )


def _resolved(path: Path, folders: dict[Path, Path]) -> Path:
    """As ``Path.resolve``, which asks the disk for each part of a path: the files of a folder share its answer."""
    if path.is_symlink() or path.is_dir():
        return path.resolve()
    if path.parent not in folders:
        folders[path.parent] = path.parent.resolve()
    return folders[path.parent] / path.name


def _check_free(out: Path, known: dict[str, Any], step: str) -> None:
    """Refuse what is not ours, and what another step made: `--fresh` is not meant for that."""
    if known.get("step") == step or not out.exists():
        return
    found = sorted(path.name for path in out.iterdir()) if out.is_dir() else ["a file"]
    if found:
        raise CatalogError(
            "the output directory already holds something else; nothing was touched",
            where=out,
            seen=f"the output of the step {known['step']!r}" if known else ", ".join(found[:5]),
            needed="a new or empty directory",
            cause="a typing error in --out" + ("" if known else ", or data of another program"),
        )


def _differences(known: dict[str, Any], about: dict[str, Any]) -> str:
    """What is not as it was when the directory was made, in words."""
    told = []
    for name, now in about.items():
        then = known.get(name)
        if isinstance(now, dict) and isinstance(then, dict):
            old, new = _flat(then), _flat(now)
            keys = sorted(key for key in {**old, **new} if old.get(key) != new.get(key))
            told += [f"{key} was {_short(old.get(key))}, now {_short(new.get(key))}" for key in keys]
        elif name == "inputs":
            before = then or []
            told += [f"input {item['path']} is new or has changed" for item in now if item not in before]
            told += [f"input {path} is gone" for path in _paths(before) if path not in _paths(now)]
        elif _as_json(then) != _as_json(now):
            told.append(f"{name} was {_short(then)}, now {_short(now)}")
    return "; ".join(told[:4]) + ("; ..." if len(told) > 4 else "")


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Settings by dotted name, each as JSON, so that a difference is told by the one setting that it is in."""
    if isinstance(value, dict):
        return {key: text for part, item in value.items() for key, text in _flat(item, f"{name}.{part}").items()}
    return {name.removeprefix("."): _as_json(value)}


def _paths(inputs: Sequence[dict[str, Any]]) -> list[str]:
    return [item["path"] for item in inputs]


def _as_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=_plain)


def _short(value: Any) -> str:
    text = "not given" if value is None else value if isinstance(value, str) else _as_json(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise CatalogError(
            "a receipt is damaged", where=path, seen=error, needed="JSON", cause="remove this file and start again"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, keys sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, sort_keys=True, indent=1, default=_plain) + "\n")


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and time of an input file, or the digest-relevant files of a HATS directory."""
    marks = [path / name for name in ("hats.properties", "properties", "collection.properties")]
    target = next((mark for mark in marks if mark.is_file()), path)
    status = os.stat(target)
    return {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} does not go into JSON")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
