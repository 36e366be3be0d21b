"""Record memory, open files and speed of a running training, to find leaks and slow-downs.

    python train_deblur.py ... 2> train.log &
    python scripts/dev/soak.py $! train.log --output log/soak

train.log is the file that receives the progress bar. Every 30 seconds a line is added to soak.csv. When the process
ends, or this one is stopped by Ctrl-C, the curves are drawn and the beginning is compared with the end. Linux only.
"""

import csv
import math
import os
import re
import sys
import time
from dataclasses import MISSING, dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from codes.cli import option, program
from codes.errors import InputError
from codes.files import replacing
from codes.reporting.curves import draw_panel

STEP = re.compile(rb"(\d+)/\S+ \[[^\]]*step")  # of tqdm: "120/640 [01:02<04:30, 1.92step/s"
TICK, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
MIB = 2**20


@dataclass(frozen=True)
class Options:
    pid: int = option(MISSING, "id of the process to observe, together with its child processes", positional=True)
    log: str = option(MISSING, "file that receives its progress bar", positional=True)
    output: str = option("log/soak", "folder of soak.csv and the curves")
    every: float = option(30.0, "seconds between readings")


def main(o: Options) -> None:
    if not alive(o.pid):
        raise InputError(f"{o.pid}: no such process")
    if not 0 < o.every < math.inf:
        raise InputError(f"--every {o.every:g}: seconds above 0")
    if not Path(o.log).is_file():
        raise InputError(f"{o.log}: no such file; name the file that receives the progress bar of process {o.pid}")
    output, start, rows = Path(o.output), time.monotonic(), []
    output.mkdir(parents=True, exist_ok=True)
    if (output / "soak.csv").exists():
        raise InputError(f"{output}/soak.csv: exists already; choose another --output")
    try:
        with open(output / "soak.csv", "w", newline="") as file:
            while True:
                row = {"minutes": round((time.monotonic() - start) / 60, 3), **reading(o.pid), "step": step(o.log)}
                if not alive(o.pid):
                    break  # it ended during the reading
                if not rows:
                    table = csv.DictWriter(file, row)
                    table.writeheader()
                table.writerow(row)
                file.flush()
                rows.append(row)
                time.sleep(o.every)
    except KeyboardInterrupt:
        pass
    if len(rows) < 3:
        raise InputError(f"{o.pid}: ended after {len(rows)} readings, at least 3 are needed; lower --every")
    draw(output, rows)
    print(summary(rows))


def alive(pid: int) -> bool:
    try:
        return stat(pid)[0] not in "ZX"
    except OSError:
        return False


def reading(pid: int) -> dict[str, float]:
    """Read memory, open files and CPU time of a process and its descendants."""
    resident, own, files, seconds, count = 0, 0, 0, 0.0, 0
    for process in family(pid):
        try:
            pages = list(map(int, Path(f"/proc/{process}/statm").read_text().split()))
            files += len(os.listdir(f"/proc/{process}/fd"))
            fields = stat(process)
        except OSError:
            continue  # it has ended
        resident, own = resident + pages[1] * PAGE, own + (pages[1] - pages[2]) * PAGE
        # Including the CPU time of children that have ended.
        seconds, count = seconds + sum(map(int, fields[11:15])) / TICK, count + 1
    return {
        "resident MiB": round(resident / MIB, 1),
        "own MiB": round(own / MIB, 1),  # without mapped files, which the system may drop
        "open files": files,
        "processes": count,
        "CPU seconds": round(seconds, 2),
    }


def family(pid: int) -> list[int]:
    """List a process and its descendants."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                parents[int(name)] = int(stat(int(name))[1])
            except OSError:
                continue
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found


def stat(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; the name before it may contain any character."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def step(log: str) -> int:
    """Return the last step shown by the progress bar, 0 before the first."""
    with open(log, "rb") as file:
        file.seek(max(0, os.path.getsize(log) - 65536))
        found = STEP.findall(file.read())
    return int(found[-1]) if found else 0


def speeds(rows: list[dict], *, stride: int = 1) -> list[tuple[float, float]]:
    """Return (minute, steps per CPU second) between every `stride`-th reading, where steps were made."""
    pairs = zip(rows[::stride], rows[stride::stride], strict=False)
    return [
        (b["minutes"], (b["step"] - a["step"]) / (b["CPU seconds"] - a["CPU seconds"]))
        for a, b in pairs
        if b["step"] > a["step"] > 0 and b["CPU seconds"] > a["CPU seconds"]
    ]


def draw(output: Path, rows: list[dict]) -> None:
    """Write memory.svg, files.svg and speed.svg, over minutes."""
    figures = {"memory": ("resident MiB", "own MiB"), "files": ("open files", "processes")}
    curves = {
        name: {of: [(row["minutes"], row[of]) for row in rows] for of in kinds} for name, kinds in figures.items()
    }
    curves["speed"] = {"steps per CPU second": speeds(rows, stride=max(1, len(rows) // 40))}
    titles = {"memory": "memory, MiB", "files": "open files", "speed": "steps per CPU second"}
    for name, lines in curves.items():
        with replacing(output / f"{name}.svg") as file:
            file.write(draw_panel(f"{titles[name]}, over minutes", lines).encode())


def summary(rows: list[dict]) -> str:
    """Compare medians of the second and of the last tenth of the time; the first tenth is the start of the program."""
    tenth = max(1, len(rows) // 10)
    begin, end = rows[tenth : 2 * tenth + 1], rows[-tenth - 1 :]
    lines = [f"{rows[-1]['minutes']:.0f} minutes, {rows[-1]['step'] - rows[0]['step']} steps"]
    for name in ("resident MiB", "own MiB", "open files"):
        before, after = (median(row[name] for row in part) for part in (begin, end))
        lines.append(f"{name}: {before:g} in the second tenth, {after:g} in the last ({after - before:+.4g})")
    if speeds(begin) and speeds(end):
        before, after = (median(speed for _, speed in speeds(part)) for part in (begin, end))
        lines.append(f"steps per CPU second: {before:.4g}, then {after:.4g} ({100 * (after / before - 1):+.1f} %)")
    return "\n".join(lines)


if __name__ == "__main__":
    program(main, Options, __doc__)
