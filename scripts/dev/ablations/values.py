"""Kept values of the ablation, in one JSON file: each with the content, code and versions that it was measured with.

{"fingerprints": {COMBINED: {NAME: DIGEST}},
 "values": {"ROW, seed SEED": {"training": {}, "weights": {}, "data": COMBINED, "code": COMBINED, "versions": {},
                               "tests": {FOLDER: {"content": COMBINED, "rows": {}}}}}}
"""

import fcntl
import json
from pathlib import Path
from typing import Any

from codes.data import manifest
from codes.data.fingerprint import Digests, changes, combined
from codes.files import replacing

Entry = dict[str, Any]
UNKNOWN = "unknown"  # content and code of values that were measured before these were recorded
COMPARED = ("training", "weights", "data", "code")


def read(path: Path) -> dict[str, Any]:
    """Read all kept values; none if there is no file.

    Raises: InputError if it is damaged.
    """
    held = manifest.read(path, otherwise="restore it, or move it away to measure all values again")
    return {"fingerprints": {}, "values": {}} | held


def save(path: Path, name: str, entry: Entry, fingerprints: list[Digests]) -> None:
    """Add or replace one value, with the fingerprints that it names. Several processes may do so at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_name(f".{path.name}.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        held = read(path)
        held["values"][name] = entry
        used = {one[part] for one in held["values"].values() for part in ("data", "code")}
        used |= {test["content"] for one in held["values"].values() for test in one["tests"].values()}
        known = held["fingerprints"] | {combined(digests): digests for digests in fingerprints}
        held["fingerprints"] = {content: digests for content, digests in known.items() if content in used}
        with replacing(path) as file:
            file.write((json.dumps(held, indent=1, ensure_ascii=False) + "\n").encode())


def differences(held: dict[str, Any], before: Entry, now: Entry, fingerprints: list[Digests]) -> str:
    """Say what a value was measured with and is not measured with now; empty if it is the same."""
    known = held["fingerprints"] | {combined(digests): digests for digests in fingerprints}
    found = []
    for part in COMPARED:
        then, today = before.get(part, UNKNOWN), now[part]
        if then == today:
            continue
        if isinstance(today, dict):
            changed = changes(
                {name: repr(value) for name, value in then.items()},
                {name: repr(value) for name, value in today.items()},
            )
        elif then in known and today in known:
            changed = changes(known[then], known[today])
        else:
            changed = f"{then} then, {today} now"
        found.append(f"{part}: {changed}")
    return "; ".join(found)


def measured(entry: Entry, folder: str, content: str) -> dict[str, dict[str, float]] | None:
    """Return the rows of a value on the test data of this content, wherever they lie; None if it has none.

    Rows from before content was recorded are those of the folder of the same name.
    """
    for name, test in entry["tests"].items():
        if test["content"] == content or (test["content"] == UNKNOWN and name == folder):
            return test["rows"]
    return None
