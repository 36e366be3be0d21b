"""Exit with 0 if this Python has all packages of a requirements file, in versions that will do, else with 1."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text.split("+")[0])[:3])


def satisfied(file: Path) -> bool:
    for line in (line.partition("#")[0].strip() for line in file.read_text().split("\n")):
        if line.startswith("-r "):
            if not satisfied(file.parent / line[3:].strip()):
                return False
        elif line:
            package, least = line.split(">=")
            # Another build of OpenCV does as well: one with a screen has all that the headless one has.
            names = [package, "opencv-python", "opencv-contrib-python"] if package.startswith("opencv") else [package]
            if not any(numbers(found) >= numbers(least) for found in map(installed, names)):
                return False
    return True


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(0 if satisfied(Path(sys.argv[1])) else 1)
