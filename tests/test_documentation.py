"""Commands, flags and files that the Markdown files name exist."""

import dataclasses
import re
import shutil
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

PAGES = [
    *ROOT.glob("*.md"),
    *(page for folder in ("codes", "log", "model", "scripts") for page in ROOT.glob(f"{folder}/*.md")),
]
COMMAND = re.compile(r"(?:^|[\s`(])((?:scripts/|dev/)?[\w/]+\.(?:py|sh))\b([^`\n]*)")
FLAG = re.compile(r"(?<![\w-])--([A-Za-z]\w*)(?![\w-])")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HERE = ("", "scripts/", "scripts/dev/", "codes/")  # where a name without a folder is looked for
# Flags of docker, pip, TensorBoard and torchrun.
OTHERS = {"shm", "help", "upgrade", "logdir", "standalone", "nproc_per_node", "nnodes", "node_rank", "rdzv_endpoint"}


@cache
def flags(program: Path) -> set[str]:
    """Return the flags of a program, former names too; of one that is called with a part, those of all parts."""
    sources = [program, *(program.parent / f"{program.stem}s").glob("*.py")]
    found = {"help"}
    for source in sources:
        if re.search("(class|import) Options", source.read_text(encoding="utf-8")):
            options = import_module(".".join(source.relative_to(ROOT).with_suffix("").parts)).Options
            for field in dataclasses.fields(options):
                found |= {field.name, *field.metadata.get("aliases", ())}
    if program.suffix == ".sh":
        found |= set(FLAG.findall(program.read_text(encoding="utf-8")))
    return found


def programs() -> list[Path]:
    return [*ROOT.glob("train_*.py"), *ROOT.glob("scripts/*.*"), *ROOT.glob("scripts/dev/*.*")]


def commands(text: str) -> list[tuple[str, str]]:
    """List the programs that a page names, and what follows each in its line, joined over continued lines."""
    return COMMAND.findall(re.sub(r"\\\n\s*", " ", text))


def unknown(page: Path) -> list[str]:
    """List the programs and flags that a page names and that do not exist."""
    text, every, missing = page.read_text(encoding="utf-8"), set(OTHERS), []
    for program in programs():
        if program.suffix in (".py", ".sh"):
            every |= flags(program)
    for name, rest in commands(text):
        path = next((ROOT / place / name for place in HERE if (ROOT / place / name).is_file()), None)
        if path is None:
            if name.startswith(("scripts/", "dev/", "train_")):
                missing.append(name)
        elif path in programs() and path.suffix == ".py":
            called = re.split(r"[|&;#]| python | torchrun ", rest)[0]
            missing += [f"{name} --{flag}" for flag in FLAG.findall(called) if flag not in flags(path)]
    return missing + [f"--{flag}" for flag in FLAG.findall(text) if flag not in every]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page):
    assert not unknown(page)


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_ignored(path: Path) -> bool:
    """Return whether git leaves a file out, so that others do not have it."""
    asked = ["git", "-C", str(ROOT), "check-ignore", "-q", str(path)]
    return shutil.which("git") is not None and subprocess.run(asked, capture_output=True).returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page):
    lost = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" in link:
            continue
        if not target.exists() or is_ignored(target) or (anchor and anchor not in anchors(target)):
            lost.append(link)
    assert not lost


def test_a_flag_or_program_that_does_not_exist_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "    python scripts/deblur.py a.png --frames 3 \\\n        --looks 3 --framez 3\n\n"
        "`train_sr.py --center_weight 1`, `scripts/nothing.py`, and `--nowhere 3` but `--frames`.\n"
    )
    assert unknown(page) == [
        "scripts/deblur.py --framez",
        "train_sr.py --center_weight",
        "scripts/nothing.py",
        "--framez",
        "--nowhere",
    ]
