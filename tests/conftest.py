"""The golden numbers, loaded once."""

import json
import os
import shutil
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from tqdm import tqdm

from codes.data.images import write_image
from codes.data.spikes import write_spikes
from codes.networks import BSN, EDSR
from codes.simulation.camera import integrate, sense

COMPILERS = ("g++", "c++", "clang++", os.environ.get("CXX", "g++"))
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, COMPILERS))
    or not Path(sysconfig.get_paths()["include"], "Python.h").is_file()
    or os.environ.get("ATEN_CPU_CAPABILITY") == "default",  # torch's generated code needs vectors, and does not compile
    reason=f"torch.compile needs a C++ compiler ({', '.join(COMPILERS[:3])}), headers of Python and vector units",
)
# How long an example takes depends on the machine.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
ROOT = Path(__file__).resolve().parent.parent
GOLDEN = Path(__file__).resolve().parent / "golden"


def make_data(folder: Path, train: int = 3, test: int = 2, height: int = 32, width: int = 64) -> Path:
    """Make a tiny data set in the published layout: a bright square that moves over noise."""
    rng = np.random.default_rng(0)
    for split, samples in (("train", train), ("test", test)):
        for sample in range(samples):
            still = rng.integers(40, 200, (height, width, 3), np.uint8)
            frames = []
            for t in range(137):
                frame = still.copy()
                frame[8:24, t // 4 : t // 4 + 12] = 250
                frames.append(frame)
            intensity = np.stack([sense(frame) for frame in frames])
            spikes = integrate(intensity, first=rng.random(intensity.shape[1:], np.float32))
            name = f"scene/{sample:06d}"
            write_spikes(folder / split / "spike_data" / f"{name}.dat", spikes)
            write_image(
                folder / split / "blur_data" / f"{name}.png", np.mean(frames[20:117], 0).round().astype(np.uint8)
            )
            write_image(folder / split / "sharp_data" / f"{name}.png", frames[68])
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory) -> None:
    """Keep the tests out of the user's cache directory, but for weights of LPIPS that are there."""
    os.environ.setdefault("TORCH_HOME", str(Path(torch.hub.get_dir()).parent))
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session", autouse=True)
def compiler_cache(tmp_path_factory) -> None:
    """Keep what torch.compile caches apart from other runs: a cached kernel may be of another instruction set."""
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))
    yield
    if before is None:
        del os.environ["TORCHINDUCTOR_CACHE_DIR"]
    else:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = before


@pytest.fixture(autouse=True)
def no_progress_bar_stays() -> Iterator[None]:
    """Remove the bars of loops that a test ended by an error: the next test would print below them."""
    yield
    tqdm._instances.clear()


@pytest.fixture
def data(tmp_path) -> Path:
    return make_data(tmp_path / "data")


@pytest.fixture
def weights(tmp_path) -> dict[str, str]:
    """Weight files of BSN and EDSR, at random."""
    torch.manual_seed(0)
    for name, net in (("bsn", BSN()), ("sr", EDSR())):
        torch.save(net.state_dict(), tmp_path / f"{name}.pth")
    return {"bsn_path": str(tmp_path / "bsn.pth"), "sr_path": str(tmp_path / "sr.pth")}


@pytest.fixture(scope="session")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "golden.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden64() -> dict[str, np.ndarray]:
    """Outputs of the networks on the same inputs, in float64."""
    with np.load(GOLDEN / "golden64.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def facts() -> dict:
    return json.loads((GOLDEN / "golden.json").read_text())
