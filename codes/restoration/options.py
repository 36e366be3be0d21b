"""Options that the programs which restore recordings share: method, how the files are read, sensor, device."""

from dataclasses import dataclass
from functools import partial

from codes.cli import beside, check_range, only, option
from codes.data.orientation import ORIENTATIONS
from codes.recipe import FILES
from codes.registration.rig_file import CalibratedRig
from codes.restoration.preparation import Acquisition
from codes.restoration.restorers import METHODS, TILED

by_method = partial(only, "method")
LDN, NETWORKS, BY_RIG = by_method("ldn"), by_method(*TILED), beside("rig")
READING, COMPUTATION = "how the files are read", "how it is computed"


@dataclass(frozen=True, kw_only=True)
class RecordingOptions:
    """Options of deblur.py and of deblur_film.py."""

    method: str = option("ldn", "restoration method", choices=METHODS, renamed={"fused": "mfsr"})
    deblur_path: str = option("", f"weights of LDN [model/{' or '.join(FILES['deblur_path'])}]", unused=LDN)
    rig: str = option(
        "", "rig.json of calibrate.py: view and time of the pictures in the stream, defects and gain of the sensor"
    )
    geometry: tuple[int, ...] = option((), "height and width of the spikes [a quarter of the picture]",
                                       unused=BY_RIG, group=READING)  # fmt: skip
    rows: str = option("", "first row of a spike file [bottom; top in .npz, .npy]", choices=("bottom", "top"),
                       unused=BY_RIG, group=READING)  # fmt: skip
    bits: str = option("", "bit of a byte that is its leftmost pixel [lowest]", choices=("lowest", "highest"),
                       unused=BY_RIG, group=READING)  # fmt: skip
    orientation: str = option("upright", "orientation of the scene in the spikes", choices=tuple(ORIENTATIONS),
                              unused=BY_RIG, group=READING)  # fmt: skip
    repair: bool = option(True, "repair hot and dead pixels and lost spike frames", group=READING)
    gamma: float = option(0.0, "gamma of the camera, picture = intensity^(1/gamma), usually 2.2; 1: linear; "
                          "0: estimated", group=READING)  # fmt: skip
    tile: int = option(2048, "side of the tiles of large pictures, in pixels; 0: whole", unused=NETWORKS,
                       group=COMPUTATION)  # fmt: skip
    device: str = option("", "device to compute on: cpu, cuda, cuda:1 [cuda where there is one]", group=COMPUTATION)
    force: bool = option(False, "overwrite existing output", unused=beside("missing"))

    def acquisition(self, rig: CalibratedRig | None, *, align: str, exposure: tuple[str, ...] = ()) -> Acquisition:
        """Return what is known about the recording."""
        return Acquisition(
            exposure=exposure,
            geometry=self.geometry,
            rows=self.rows,
            bits=self.bits,
            orientation=rig.orientation if rig else self.orientation,
            align=align,
            repair=self.repair,
            gamma=self.gamma,
            rig=rig,
        )

    def check(self) -> None:
        """Raise InputError for values out of range."""
        if self.gamma:
            check_range(self, "gamma", 0.1, 10)
        check_range(self, "tile", 0, 2**16)
