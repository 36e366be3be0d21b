"""Recipes (published, reference, isi, resim): inputs and teacher of LDN, stored in the weight file of a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from codes.errors import InputError

# spike_input, input, consistency, teacher; and about the training: threshold (V_th of its data), bsn_len, commit.
Recipe = dict[str, str]

PUBLISHED: Recipe = {"spike_input": "counts", "input": "blurry", "consistency": "none", "teacher": "published"}
ISI: Recipe = {"spike_input": "isi", "input": "blurry", "consistency": "none", "teacher": "mfsr"}
RESIM: Recipe = {"spike_input": "isi", "input": "mfsr", "consistency": "picture", "teacher": "resim"}
RECIPES = {"published": PUBLISHED, "isi": ISI, "resim": RESIM}
PRESETS = RECIPES | {"reference": PUBLISHED}  # reference: the published recipe, trained as the authors' code does
SPIKE_INPUTS = ("counts", "isi")  # spike counts, or intensity from inter-spike intervals (ISI)
INPUTS = ("blurry", "mfsr")  # image input of LDN: the blurry picture, or the closed form on super-resolved intensity
CONSISTENCIES = ("none", "picture")  # picture: the mean of the restored frames is made equal to the blurry picture
MODEL = Path(__file__).resolve().parent.parent / "model"
FILES = {
    "deblur_path": ("LDN.pth", "DeblurNet_100.pth"),
    "bsn_path": ("BSN.pth", "BSN_1000.pth"),
    "sr_path": ("SR.pth", "SR_70.pth"),
}  # ours, then as published
# published: BSN and EDSR; sdm, mfsr: closed form on ISI intensity, or on multi-frame super-resolution; resim: truth of
# re-simulated scenes.
TEACHERS = ("published", "sdm", "mfsr", "resim")

# Former names and values, in older weight files, records of runs and scripts.
FORMER_NAMES = {"picture": "input", "lr_swings": "lr_cycles"}
FORMER_VALUES: dict[str, dict[str, str]] = {
    "spike_input": {"rates": "isi"},
    "recipe": {"rates": "isi", "fused": "resim"},
    "input": {"fused": "mfsr"},
    "teacher": {"consistent": "sdm", "fused": "mfsr", "refilmed": "resim"},
}


def translated(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace former names and values, of a recipe or of the options of a run, by those of today."""
    renamed = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
    return {
        name: FORMER_VALUES.get(name, {}).get(value, value) if isinstance(value, str) else value
        for name, value in renamed.items()
    }


def settle(flags: Mapping[str, str], weights: Mapping[str, Recipe], default: Recipe) -> Recipe:
    """Return the recipe that flags and weight files agree on, completed from the default.

    flags: recipe, spike_input, teacher, consistency, empty where not given; weights: by file.
    Raises: InputError naming both sides where they differ.
    """
    named = dict(PRESETS.get(flags.get("recipe", ""), {}))
    for name in ("spike_input", "teacher", "consistency"):
        if flags.get(name):
            named[name] = flags[name]
    for path, recipe in weights.items():
        wanted, found = named.get("spike_input"), recipe["spike_input"]
        if wanted and wanted != found:
            raise InputError(f"{path}: made for --spike_input {found}, asked for is {wanted} (--spike_input, --recipe)")
        wanted, found = named.get("input"), recipe.get("input", "blurry")
        if wanted and wanted != found:
            raise InputError(f"{path}: its image input is {found}, that of --recipe {flags['recipe']} is {wanted}")
    fed = {path: recipe["spike_input"] for path, recipe in weights.items()}
    if len(set(fed.values())) > 1:
        listed = ", ".join(f"{path} for {found}" for path, found in fed.items())
        raise InputError(f"weights of different --spike_input do not go together: {listed}")
    for recipe in weights.values():
        default = default | recipe
    return default | named


def check_bsn_len(recipe: Recipe, bsn_len: int, *, path: str) -> None:
    """Raise InputError if weights that start at the closed form were made with another `--bsn_len`."""
    noted, starts_there = recipe.get("bsn_len", "9"), recipe["spike_input"] == "isi"  # 9: all before it was noted
    if starts_there and recipe.get("input", "blurry") == "blurry" and noted != str(bsn_len):
        raise InputError(f"{path}: made with --bsn_len {noted}, asked for is {bsn_len}")


def in_model(flag: str) -> str:
    """Return the file in model/ that is taken where a flag names none, empty if there is none."""
    return next((str(MODEL / name) for name in FILES[flag] if (MODEL / name).is_file()), "")


def no_weights(flag: str) -> InputError:
    """Say that a flag is needed."""
    return InputError(
        f"--{flag} is missing, and there is no {' or '.join(FILES[flag])} in {MODEL}; "
        "a checkpoint of a training run and the published state dict are accepted"
        + ("" if flag == "deblur_path" else "; published_recipe in it holds BSN.pth and SR.pth of a short training")
    )
