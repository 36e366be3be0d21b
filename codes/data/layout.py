"""Files of a data set in the published layout: SPLIT/{spike_data,blur_data,sharp_data}/SEQUENCE/NAME.*

The seven pictures of a sharp sequence are sharp_sequence/SEQUENCE/NAME/{020,036,...,116}.png.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from codes.data.fingerprint import combined, fingerprint
from codes.data.images import check_image, image_size
from codes.data.listing import PICTURES, STREAMS, files_in
from codes.data.spikes import SEQUENCE_STEP, UPSCALE, Exposure, frames_in
from codes.errors import InputError

SPIKE_SIZES = {"GOPRO": (180, 320), "real": (250, 400)}  # where there is no picture
RECORDED = Exposure()  # what a file holds


class Split:
    """The files of one split, by the names of its samples, SEQUENCE/NAME.

    `fields` of a sample beside its spikes are expected and checked: "blur", "sharp", and "sequence" where it has one.
    Sizes are those of the pictures, unless `size` (height, width in picture pixels) says otherwise; without pictures
    those of `data_type`. Of the samples in order of their names those of `keep_samples` are used.
    Raises: InputError if there is no spike file.
    """

    def __init__(
        self,
        folder: str | Path,
        split: str,
        *,
        fields: tuple[str, ...],
        data_type: str = "GOPRO",
        size: tuple[int, int] | None = None,
        spike_full: bool = False,
        keep_samples: slice = slice(None),
    ):
        root = Path(folder)
        self.root = root / split if (root / split).is_dir() or data_type == "GOPRO" else root
        self.fields, self.data_type, self.size = fields, data_type, size
        self.scale = 1 if spike_full else UPSCALE
        self.spike_folder = self.root / ("spike_full" if spike_full else "spike_data")
        self.streams = files_in(self.spike_folder, STREAMS, depth=2)
        self.pictures = {field: files_in(self.root / f"{field}_data", PICTURES, depth=2) for field in ("blur", "sharp")}
        self.names = list(self.streams)[keep_samples]
        if not self.names:
            check_layout(root, data_type)
            _refuse_broken_link(root / split, self.spike_folder)
            raise InputError(
                f"{self.spike_folder}: no spike files; expected SEQUENCE/NAME.dat in it "
                "(scripts/make_demo.py and scripts/make_gopro.py make such a folder)"
            )

    def spikes(self, name: str) -> Path:
        """Return the spike file of a sample."""
        return self.streams[name]

    def picture(self, field: str, name: str) -> Path:
        """Return the picture of a sample, "blur" or "sharp".

        Raises: InputError if it is missing.
        """
        if name not in self.pictures[field]:
            missing, accepted = self.root / f"{field}_data" / name, ", ".join(PICTURES)
            raise InputError(f"{missing}.png: missing; {self.spikes(name)} needs it ({accepted})")
        return self.pictures[field][name]

    def sequence(self, name: str) -> list[Path]:
        """List the seven pictures of a sample, none if it has no sequence."""
        folder = self.root / "sharp_sequence" / name
        return [folder / f"{t:03d}.png" for t in RECORDED.centers(SEQUENCE_STEP)] if folder.is_dir() else []

    def picture_files(self, name: str) -> list[Path]:
        """List the pictures of a sample that are read."""
        pictures = [self.picture(field, name) for field in ("blur", "sharp") if field in self.fields]
        return pictures + (self.sequence(name) if "sequence" in self.fields else [])

    def files(self) -> dict[str, Path]:
        """Return all files that are read, without the teacher's labels, by their names below the root."""
        every = (path for name in self.names for path in (self.spikes(name), *self.picture_files(name)))
        return {path.relative_to(self.root).as_posix(): path for path in every}

    def describe(self) -> str:
        """Name the split, the number of samples, and hashes: of the names and sizes of all files, and of their content.

        Records of older runs end after the first hash.
        """
        files = self.files()
        listed = "".join(f"{name} {path.stat().st_size}\n" for name, path in files.items())
        listed = hashlib.sha256(listed.encode()).hexdigest()[:16]
        content = combined(fingerprint(files))
        return f"{self.root.name}, {len(self.names)} samples, file list sha256 {listed}, content sha256 {content}"

    def unpaired(self) -> Iterator[str]:
        """Name the pictures that are of no sample, because spikes are missing."""
        for field in ("blur", "sharp"):
            for name, picture in self.pictures[field].items():
                if name not in self.streams:
                    missing = self.spike_folder / f"{name}.dat"
                    yield f"{picture}: left out, it has no {missing}; copy that too, or remove the picture"

    def check(self, name: str) -> tuple[int, int]:
        """Return the picture size of a sample whose files are there and fit together.

        Raises: InputError naming the file for a missing partner, a truncated picture, a stream of another length or
        size.
        """
        path, (height, width) = self.spikes(name), self._picture_size(name)
        if height % self.scale or width % self.scale:
            raise InputError(
                f"{path}: its picture is {height}x{width}, both must be multiples of {self.scale}: "
                "crop the picture, and the spikes to a quarter of it"
            )
        frames = frames_in(path, height // self.scale, width // self.scale)
        if frames != RECORDED.total:
            raise InputError(
                f"{path}: holds {frames} frames of {height // self.scale}x{width // self.scale} (1/{self.scale} of the "
                f"picture), expected {RECORDED.total}: cut short, or of another picture; copy it "
                "again, or where there are no pictures give their size by --height and --width"
            )
        for picture in self.picture_files(name):
            found = check_image(picture)
            if found != (height, width):
                raise InputError(f"{picture}: is {found[0]}x{found[1]}, expected {height}x{width} as its spikes")
        return height, width

    def _picture_size(self, name: str) -> tuple[int, int]:
        """Return the picture size of a sample, from the header of its blurry picture where there is one."""
        if self.size:
            return self.size
        # Where there are pictures at all each sample has one: the usual size would be a wrong guess.
        if "blur" in self.fields or (self.root / "blur_data").is_dir():
            return image_size(self.picture("blur", name))
        height, width = SPIKE_SIZES[self.data_type]
        return height * UPSCALE, width * UPSCALE


def _refuse_broken_link(*folders: Path) -> None:
    """Raise InputError for a link that leads nowhere, such as that of re-simulated scenes to their test split."""
    for folder in folders:
        if folder.is_symlink() and not folder.exists():
            raise InputError(
                f"{folder}: is a link to {folder.readlink()}, which is not there; link it to where these data are now "
                "(scripts/resimulate.py does that, with --base_folder where the recordings are now)"
            )


def check_layout(folder: str | Path, data_type: str) -> None:
    """Raise InputError if the samples of a data set that is called GOPRO lie in `folder` itself."""
    root = Path(folder)
    holds_samples = any((root / kind).is_dir() for kind in ("spike_data", "spike_full"))
    if data_type != "GOPRO" or not holds_samples or any((root / split).is_dir() for split in ("train", "test")):
        return
    if root.name in ("train", "test"):
        raise InputError(f"{root}: is a split of a data set; give the folder above it: --base_folder {root.parent}")
    raise InputError(f"{root}: holds samples itself, not in train and test: give --data_type real")
