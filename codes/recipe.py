"""What a network was made to eat: noted in its weight file, so that no program feeds it anything else."""

from collections.abc import Mapping

from codes.errors import InputError

Recipe = dict[str, str]  # spike_input, and for notice what else is known of the making

PUBLISHED: Recipe = {"spike_input": "counts", "teacher": "published"}
RATES: Recipe = {"spike_input": "rates", "teacher": "fused"}
RECIPES = {"published": PUBLISHED, "rates": RATES}
SPIKE_INPUTS = ("counts", "rates")
TEACHERS = ("published", "consistent", "fused")


def settle(flags: Mapping[str, str], weights: Mapping[str, Recipe], default: Recipe) -> Recipe:
    """Return the recipe that flags and weight files agree on, completed from the default.

    flags: recipe, spike_input, teacher, empty where not given; weights: by file.
    Raises: InputError naming both sides where they differ.
    """
    named = dict(RECIPES.get(flags.get("recipe", ""), {}))
    for name in ("spike_input", "teacher"):
        if flags.get(name):
            named[name] = flags[name]
    for path, recipe in weights.items():
        wanted, found = named.get("spike_input"), recipe["spike_input"]
        if wanted and wanted != found:
            raise InputError(f"{path}: made for --spike_input {found}, asked for is {wanted} (--spike_input, --recipe)")
    fed = {path: recipe["spike_input"] for path, recipe in weights.items()}
    if len(set(fed.values())) > 1:
        listed = ", ".join(f"{path} for {found}" for path, found in fed.items())
        raise InputError(f"weights of different --spike_input do not go together: {listed}")
    for recipe in weights.values():
        default = default | recipe
    return default | named
