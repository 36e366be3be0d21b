"""What a network was made to eat: noted in its weight file, so that no program feeds it anything else."""

from collections.abc import Mapping
from pathlib import Path

from codes.errors import InputError

# spike_input, picture, consistency; and of the making: teacher, threshold (V_th of the training data), bsn_len, commit.
Recipe = dict[str, str]

PUBLISHED: Recipe = {"spike_input": "counts", "picture": "blurry", "consistency": "none", "teacher": "published"}
RATES: Recipe = {"spike_input": "rates", "picture": "blurry", "consistency": "none", "teacher": "fused"}
FUSED: Recipe = {"spike_input": "rates", "picture": "fused", "consistency": "picture", "teacher": "refilmed"}
RECIPES = {"published": PUBLISHED, "rates": RATES, "fused": FUSED}
SPIKE_INPUTS = ("counts", "rates")
PICTURES = ("blurry", "fused")  # what LDN looks at and starts from beside the spikes
CONSISTENCIES = ("none", "picture")  # with what the mean of what LDN restores is made to agree
MODEL = Path(__file__).resolve().parent.parent / "model"
FILES = {
    "deblur_path": ("LDN.pth", "DeblurNet_100.pth"),
    "bsn_path": ("BSN.pth", "BSN_1000.pth"),
    "sr_path": ("SR.pth", "SR_70.pth"),
}  # ours, then as published
TEACHERS = ("published", "consistent", "fused", "refilmed")


def settle(flags: Mapping[str, str], weights: Mapping[str, Recipe], default: Recipe) -> Recipe:
    """Return the recipe that flags and weight files agree on, completed from the default.

    flags: recipe, spike_input, teacher, consistency, empty where not given; weights: by file.
    Raises: InputError naming both sides where they differ.
    """
    named = dict(RECIPES.get(flags.get("recipe", ""), {}))
    for name in ("spike_input", "teacher", "consistency"):
        if flags.get(name):
            named[name] = flags[name]
    for path, recipe in weights.items():
        wanted, found = named.get("spike_input"), recipe["spike_input"]
        if wanted and wanted != found:
            raise InputError(f"{path}: made for --spike_input {found}, asked for is {wanted} (--spike_input, --recipe)")
        wanted, found = named.get("picture"), recipe.get("picture", "blurry")
        if wanted and wanted != found:
            raise InputError(f"{path}: looks at the {found} picture, --recipe {flags['recipe']} at the {wanted} one")
    fed = {path: recipe["spike_input"] for path, recipe in weights.items()}
    if len(set(fed.values())) > 1:
        listed = ", ".join(f"{path} for {found}" for path, found in fed.items())
        raise InputError(f"weights of different --spike_input do not go together: {listed}")
    for recipe in weights.values():
        default = default | recipe
    return default | named


def check_bsn_len(recipe: Recipe, bsn_len: int, *, path: str) -> None:
    """Raise InputError if weights that start at the closed form were made with another `--bsn_len`."""
    noted, starts_there = recipe.get("bsn_len", "9"), recipe["spike_input"] == "rates"  # 9: all before it was noted
    if starts_there and recipe.get("picture", "blurry") == "blurry" and noted != str(bsn_len):
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
