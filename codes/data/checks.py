"""Check a data set before a run: read every file once, and name all that is wrong."""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from codes.data.dataset import SpikeDataset
from codes.errors import InputError


def faults(samples: SpikeDataset) -> Iterator[str]:
    """Yield what is wrong with the files of a data set: at most one fault a sample, and pictures without spikes."""
    for index, name in enumerate(tqdm(samples.names, f"check {samples.split.root.name}", leave=False)):
        try:
            samples.sizes[index] = samples.split.check(name)
            firing = np.unpackbits(samples.whole(index)["spikes"]).mean()
        except InputError as error:
            yield str(error)
            continue
        if firing in (0, 1):
            found = "not one spike" if firing == 0 else "a spike of every pixel"
            yield f"{samples.split.spikes(name)}: {found} in any frame: no recording of a scene, make or copy it again"
    yield from samples.split.unpaired()
