"""Imports go down only: every module stands on a floor, and imports what lies below it."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

FLOORS = [
    {"codes", "codes.errors", "codes.files"},
    {
        "codes.archives",
        "codes.cli",
        "codes.spikes",
        "codes.images",
        "codes.lpips",
        "codes.manifest",
        "codes.parallel",
        "codes.published",
        "codes.recipe",
        "codes.speed",
        "codes.video",
    },
    {
        "codes.sdm",
        "codes.baselines",
        "codes.footage",
        "codes.geometry",
        "codes.grid",
        "codes.record",
        "codes.scenes",
        "codes.table",
    },
    {
        "codes.networks",
        "codes.losses",
        "codes.metrics",
        "codes.rates",
        "codes.fusion",
        "codes.simulator",
        "codes.interpolation",
        "codes.recording",
        "codes.curves",
        "codes.variety",
    },
    {"codes.dataset", "codes.factory", "codes.tiles", "codes.explain", "codes.report"},
    {"codes.engine", "codes.teacher"},
    {"codes.stage", "codes.restore", "codes.refilm", "codes.cost"},
]
FLOOR = {module: floor for floor, modules in enumerate(FLOORS) for module in modules}
SCRIPTS = len(FLOORS)
FILES = sorted({*ROOT.glob("codes/**/*.py"), *ROOT.glob("train_*.py"), *ROOT.glob("scripts/*.py")})


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package(name: str) -> str:
    """The unit that stands on a floor: codes.engine and codes.networks are one each."""
    return ".".join(name.split(".")[:2])


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= (
                {f"{node.module}.{alias.name}" for alias in node.names} if node.module == "codes" else {node.module}
            )
    return {package(name) for name in names if name.split(".")[0] == "codes"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_go_down(path):
    name = module(path)
    floor = FLOOR[package(name)] if name.startswith("codes") else SCRIPTS
    for other in imported(path) - {package(name)}:
        assert FLOOR[other] < floor, f"{name} (floor {floor}) imports {other} (floor {FLOOR[other]})"


def test_the_engine_names_no_stage():
    for path in ROOT.glob("codes/engine/*.py"):
        assert not imported(path) & {"codes.networks", "codes.losses", "codes.teacher", "codes.dataset", "codes.sdm"}
