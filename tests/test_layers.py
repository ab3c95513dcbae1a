"""The direction of imports, and the one home of each heavy package."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "stellarscale"
BASE = {
    "errors",
    "frozen",
    "schema",
    "schema_spectra",
    "spectra_columns",
    "stamp_columns",
    "flags",
    "resources",
    "config",
    "settings",
}
BASE |= {"__init__", ""}
LAYERS: dict[str, set[str]] = {
    "kernels": set(),
    "settings": {"kernels"},
    "spectra_columns": {"kernels"},
    "surveys": {"kernels"},
    "catalog": {"kernels", "surveys"},
    "models": {"kernels"},
    "partition": {"kernels"},
    "simulate": {"kernels"},
    "report": {"kernels", "catalog"},
    "engine": {"kernels", "surveys", "catalog", "models", "partition"},
    "products": {"kernels", "surveys", "catalog", "models", "partition", "engine", "report", "simulate"},
    "cli": {"products", "simulate"},
}
HOMES = {
    "healpy": {"kernels/healpix.py"},
    "dask": {"engine"},
    "distributed": {"engine"},
    "dask_ml": {"engine"},
    "sklearn": {"models"},
    "sklearnex": {"models"},
    "xgboost": {"models"},
    "lightgbm": {"models"},
    "catboost": {"models"},
    "optuna": {"models"},
    "torch": {"models"},
    "safetensors": {"models"},
    "matplotlib": {"report"},
    "hats": set(),
    "lsdb": set(),
}
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    """Dotted names of every module a file imports, at its top or inside functions; type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path):
    room = room_of(path)
    allowed = LAYERS.get(room, set()) | {room}
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "stellarscale":
            continue
        target = parts[1] if len(parts) > 1 else ""
        if target in BASE or target == "__version__" or room == "__init__":
            continue
        assert target in allowed, f"{path.relative_to(PACKAGE)} imports {name}; {room} may import {sorted(allowed)}"


@pytest.mark.parametrize("package", HOMES)
def test_heavy_packages_have_one_home(package):
    offenders = [
        str(path.relative_to(PACKAGE))
        for path in MODULES
        if any(name.split(".")[0] == package for name in imports_of(path))
        and not any(str(path.relative_to(PACKAGE)).startswith(home) for home in HOMES[package])
    ]
    assert offenders == []


def test_kernels_know_neither_arrow_nor_files():
    for path in PACKAGE.glob("kernels/*.py"):
        roots = {name.split(".")[0] for name in imports_of(path)}
        assert not roots & {"pyarrow", "pandas", "astropy", "dask"}, path.name


@pytest.mark.parametrize(
    "statement", ["import stellarscale.cli", "from stellarscale.catalog.reader import open_stored"]
)
def test_light_entries_load_nothing_heavy(statement):
    heavy = "{'torch', 'sklearn', 'xgboost', 'matplotlib', 'dask', 'distributed', 'numba'}"
    code = f"import sys; {statement}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
