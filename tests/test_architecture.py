"""Imports go down only: every package stands on a floor, and imports what lies below it."""

import ast
from pathlib import Path

import pytest
from conftest import ROOT

# From the ground up. Modules of one package may import each other where that makes no circle.
FLOORS = [
    {"codes.errors", "codes.files"},
    {"codes.archives", "codes.cli", "codes.memory_format", "codes.parallel", "codes.recipe"},
    {"codes.data"},
    {"codes.physics"},
    {"codes.motion", "codes.evaluation", "codes.registration"},
    {"codes.networks"},
    {"codes.distillation"},
    {"codes.simulation"},
    {"codes.restoration"},
    {"codes.engine"},
    {"codes.reporting"},
    {"codes.stage"},
]
FLOOR = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
FILES = sorted({*ROOT.glob("codes/**/*.py"), *ROOT.glob("train_*.py"), *ROOT.glob("scripts/**/*.py")})


def module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def package(name: str) -> str:
    """The unit that stands on a floor: codes.engine and codes.networks are one each."""
    return ".".join(name.split(".")[:2])


def imported(path: Path) -> set[str]:
    """The modules of this repository that a file imports, at any place in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            folder = ROOT.joinpath(*node.module.split("."))
            names |= {
                f"{node.module}.{alias.name}" if (folder / f"{alias.name}.py").exists() else node.module
                for alias in node.names
            }
            names |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "codes"}
    return {name for name in names if name.split(".")[0] == "codes"} - {"codes"}


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_go_down(path):
    name = module(path)
    floor = FLOOR.get(package(name), len(FLOORS))
    for other in {package(each) for each in imported(path)} - {package(name)}:
        assert FLOOR[other] < floor, f"{name} (floor {floor}) imports {other} (floor {FLOOR[other]})"


def test_no_modules_import_each_other_in_a_circle():
    arrows = {module(path): imported(path) for path in FILES}
    faces = {module(path) for path in FILES if path.name == "__init__.py"}  # a package's face hands names on
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, " -> ".join((*way[way.index(name) :], name))
        if name not in done:
            for other in arrows.get(name, ()):
                if other not in faces:
                    visit(other, (*way, name))
            done.add(name)

    for name in sorted(arrows.keys() - faces):
        visit(name, ())


def test_the_engine_names_no_stage():
    stages = {"codes.networks", "codes.distillation", "codes.physics", "codes.data.dataset", "codes.evaluation.losses"}
    for path in ROOT.glob("codes/engine/*.py"):
        found = imported(path)
        assert not (found | {package(name) for name in found}) & stages, path
