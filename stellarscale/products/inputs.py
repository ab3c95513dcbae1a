"""What the runs of all products begin and end with: inputs found and imported, exports written."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping
from pathlib import Path

from stellarscale.catalog.atomic import write_text
from stellarscale.catalog.reader import open_stored
from stellarscale.config import CatalogInput, Job, digest_of
from stellarscale.engine.ledger import Ledger, keep_apart, open_ledger, write_json
from stellarscale.errors import InputError
from stellarscale.products.importing import import_survey
from stellarscale.products.steps import Session, Summary
from stellarscale.schema import load_survey
from stellarscale.surveys.plan import check_names


def run_directory(job: Job) -> Path:
    """The run's directory; absolute, because a worker need not run where the command was given."""
    return Path(job.out).absolute()


def store_of(job: Job) -> Path:
    """Where imported and matched catalogues go: in the run, or where other jobs find them too."""
    return Path(job.store).absolute() if job.store else run_directory(job) / "catalogs"


def input_files(job: Job, name: str, entry: CatalogInput) -> list[Path]:
    """Files of a catalogue of the job, or the directory that it is; :class:`InputError` if one is missing."""
    return _all_files(job, {name: entry})[name]


def checked_inputs(job: Job) -> dict[str, list[Path]]:
    """Files or directories of every catalogue that the job uses; its columns are looked up in the survey's schema.

    Raises
    ------
    InputError
        If files do not exist: all of them are named, in the order in which the job needs them.
    ConfigError
        If a column to import is none of its survey's.
    """
    for name in job.used_catalogs:
        entry = job.catalogs[name]
        if entry.survey is not None:
            check_names(load_survey(entry.survey), entry.columns)
    return _all_files(job, {name: job.catalogs[name] for name in job.used_catalogs})


def _all_files(job: Job, entries: Mapping[str, CatalogInput]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {name: [] for name in entries}
    missing: dict[str, list[str]] = {}
    for name, entry in entries.items():
        for pattern in entry.files or (entry.path or "",):
            matches = sorted(Path(match).absolute() for match in glob.glob(pattern))
            found[name] += matches
            if not matches:
                missing.setdefault(name, []).append(pattern)
    if missing:
        raise _not_there(job, missing)
    return found


def _not_there(job: Job, missing: Mapping[str, list[str]]) -> InputError:
    """The error of patterns that no file fits, by the name of their catalogue."""
    count, one = sum(map(len, missing.values())), len(missing) == 1
    told = {name: ", ".join(patterns) for name, patterns in missing.items()}
    return InputError(
        "an input of the job does not exist" if count == 1 else f"{count} inputs of the job do not exist",
        where=", ".join(f"catalogs.{name}" for name in missing),
        seen="; ".join(patterns if one else f"{name}: {patterns}" for name, patterns in told.items()),
        needed="an existing file, pattern or catalogue" + (" for each" if count > 1 else ""),
        cause="{data} is " + repr(job.data) + "; set it with --set data=DIRECTORY",
    )


def open_run(job: Job, *, others: Iterable[Path] = (), fresh: bool) -> Ledger:
    """Claim the directory of a run, which must not hold what the run reads.

    Parameters
    ----------
    job : Job
    others : iterable of Path
        Files that the run reads beside those of its catalogues.
    fresh : bool
        Throw away what an earlier run left there.
    """
    out = run_directory(job)
    keep_apart(out, [*(path for paths in checked_inputs(job).values() for path in paths), *others])
    return open_ledger(out, step="run", digest=digest_of(job.product, job.name), about={}, fresh=fresh)


def close_run(job: Job, steps: list[Summary], catalog: Path) -> list[str]:
    """Keep the job and its steps beside what it made, and write the files that it wants; returns where these are."""
    out = run_directory(job)
    write_text(out / "job.json", job.model_dump_json(indent=1))
    write_json(out / "steps.json", steps)
    return export_files(job, catalog)


def import_catalogs(on: Session, job: Job) -> tuple[dict[str, Path], list[Summary]]:
    """Import what comes as files and is used; take what is a catalogue already as it is."""
    paths: dict[str, Path] = {}
    steps: list[Summary] = []
    for name in job.used_catalogs:
        entry = job.catalogs[name]
        files = input_files(job, name, entry)
        if entry.survey is None:
            paths[name] = files[0]
            continue
        paths[name], grid = store_of(job) / name, entry.grid.wave_grid if entry.grid else None
        done = import_survey(
            on, files, entry.survey, paths[name], columns=entry.columns, max_rows=entry.max_rows, grid=grid
        )
        steps.append({**done, "name": f"import {name}"})
    return paths, steps


def export_files(job: Job, catalog: Path) -> list[str]:
    """Write the files that the job wants beside the value-added catalogue; returns where they are.

    A CSV file is without the columns of vectors and bytes, e.g. the references of a spectrum, and the log says so.
    """
    from stellarscale.catalog.export import export

    written = []
    stored = open_stored(catalog)
    for kind in job.exports:
        path = catalog.with_name(f"{catalog.name}.{kind}")
        export(stored, path, format=kind)
        written.append(str(path))
    return written
