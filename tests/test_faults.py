# ruff: noqa: E501 (the matrix is read as a table)
"""What can be wrong with what a training is given: each fault ends in one line that names the file, and exit code 2."""

import os
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import make_data
from PIL import Image
from training import STAGES, run

from codes.cli import program
from codes.data.images import check_image, image_size, read_image
from codes.data.spikes import read_packed, write_spikes
from codes.errors import InputError
from codes.networks import BSN

SPIKES, BLUR, SHARP = (f"train/{kind}/scene/000001{suffix}" for kind, suffix in (
    ("spike_data", ".dat"), ("blur_data", ".png"), ("sharp_data", ".png")))  # fmt: skip
FRAME = 16  # bytes of a frame of 8x16


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def longer(by: int) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(path.read_bytes() + bytes(by))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


def constant(bits: int) -> Callable[[Path], None]:
    return lambda path: write_spikes(path, np.full((137, 8, 16), bits, np.uint8))


def picture(*shape: int, kind: type = np.uint8) -> Callable[[Path], None]:
    return lambda path: cv2.imwrite(str(path), np.full(shape, 9, kind)) or pytest.fail("not written")


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def jpeg(path: Path) -> None:
    path.write_bytes(cv2.imencode(".jpg", np.zeros((32, 64, 3), np.uint8))[1].tobytes())


def text(path: Path) -> None:
    path.write_text("not a picture")


def nan_weights(path: Path) -> None:
    state = BSN().state_dict()
    next(iter(state.values())).fill_(float("nan"))
    torch.save(state, path)


LOOK = "copy it again, or see scripts/inspect_spikes.py"
MATRIX = {
    # fault: (file, what is done to it, stage, options, what is told after the path)
    "spikes empty": (SPIKES, empty, "sr", {}, ": 0 bytes are not whole frames of 8x16 (16 bytes each, 0.00 of them): "
                     "the file is cut short or its geometry is another one; " + LOOK),
    "spikes cut by a byte": (SPIKES, cut, "sr", {}, ": 2191 bytes are not whole frames of 8x16 (16 bytes each, 136.94 "
                             "of them): the file is cut short or its geometry is another one; " + LOOK),
    "spikes too long by a byte": (SPIKES, longer(1), "sr", {}, ": 2193 bytes are not whole frames of 8x16 (16 bytes "
                                  "each, 137.06 of them): the file is cut short or its geometry is another one; " + LOOK),
    "spikes too long by a frame": (SPIKES, longer(FRAME), "sr", {}, ": holds 138 frames of 8x16 (1/4 of the picture), "
                                   "expected 137: cut short, or of another picture; copy it again, or where there are no "
                                   "pictures give their size by --height and --width"),
    "spikes are a folder": (SPIKES, folder, "sr", {}, ": is a folder, not a spike file"),
    "spikes are a link to nothing": (SPIKES, dangling, "sr", {}, ": no such spike file"),
    "no spike at all": (SPIKES, constant(0), "sr", {"check_data": True}, ": not one spike in any frame: no recording of "
                        "a scene, make or copy it again"),
    "nothing but spikes": (SPIKES, constant(1), "sr", {"check_data": True}, ": a spike of every pixel in any frame: no "
                           "recording of a scene, make or copy it again"),
    "picture missing": (BLUR, Path.unlink, "sr", {}, ": missing; {root}/train/spike_data/scene/000001.dat needs it "
                        "(.png, .jpg, .jpeg)"),
    "picture truncated": (BLUR, truncated, "sr", {}, ": picture is truncated (no end marker); copy it or make it again"),
    "picture empty": (BLUR, empty, "sr", {}, ": not a readable picture (0 bytes); PNG and JPEG are accepted"),
    "picture is a text": (BLUR, text, "sr", {}, ": not a readable picture (13 bytes); PNG and JPEG are accepted"),
    "picture is a JPEG": (BLUR, jpeg, "sr", {}, ": a JPEG by its content; name it .jpg"),
    "picture gray": (BLUR, picture(32, 64), "sr", {}, ": a picture of 8-bit gray; 8-bit RGB is expected: convert it"),
    "picture of 16 bits": (BLUR, picture(32, 64, 3, kind=np.uint16), "sr", {}, ": a picture of 16-bit RGB; 8-bit RGB is "
                           "expected: convert it"),
    "picture gray of 16 bits": (BLUR, picture(32, 64, kind=np.uint16), "sr", {}, ": a picture of 16-bit gray; 8-bit RGB "
                                "is expected: convert it"),
    "picture with alpha": (BLUR, picture(32, 64, 4), "sr", {}, ": a picture of 8-bit RGB with alpha; 8-bit RGB is "
                           "expected: convert it"),
    "picture not a multiple of 4": (BLUR, picture(30, 64, 3), "sr", {}, ": its picture is 30x64, both must be multiples "
                                    "of 4: crop the picture, and the spikes to a quarter of it"),
    "truth missing": (SHARP.replace("train", "test"), Path.unlink, "bsn", {"evaluate_every": 1}, ": missing; "
                      "{root}/test/spike_data/scene/000001.dat needs it (.png, .jpg, .jpeg). Without test data: --evaluate_every 0"),
    "truth of another size": (SHARP.replace("train", "test"), picture(32, 32, 3), "bsn", {"evaluate_every": 1}, ": is "
                              "32x32, expected 32x64 as its spikes. Without test data: --evaluate_every 0"),
    "weights missing": ("../bsn.pth", Path.unlink, "deblur", {}, ": no such weight file"),
    "weights damaged": ("../bsn.pth", truncated, "deblur", {}, ": weights cannot be read: damaged, or not a file of PyTorch "
                        "(RuntimeError)"),
    "weights not finite": ("../bsn.pth", nan_weights, "deblur", {}, ": weights that are not finite, in unet.enc1.conv1.conv.weight"
                           ": of a training that failed"),
}  # fmt: skip
NAMES_ANOTHER = {"picture not a multiple of 4": SPIKES}


def told(stage: str, data: Path, weights: dict[str, str], capsys, monkeypatch, **options: object) -> str:
    """Run a stage as its script does; return the last line that it printed before it exited with 2."""
    module = STAGES[stage][0]
    monkeypatch.setattr(sys, "argv", [f"train_{stage}.py"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        program(lambda _: run(stage, data, weights, **options), module.Options, "")
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("fault", MATRIX)
def test_a_fault_is_named_in_one_line(data, weights, capsys, monkeypatch, fault):
    file, spoil, stage, options, message = MATRIX[fault]
    spoil(Path(os.path.normpath(data / file)))
    lines = told(stage, data, weights, capsys, monkeypatch, **options).splitlines()
    named = os.path.normpath(data / NAMES_ANOTHER.get(fault, file))
    expected = f"{named}{message.replace('{root}', str(data))}"
    if options.get("check_data"):
        assert expected in lines
        assert lines[-1] == f"error: {data}: 1 fault in the data, listed above; repair or remove these samples"
    else:
        assert lines[-1] == f"error: {expected}"


def test_an_empty_split_is_named(data, weights, capsys, monkeypatch):
    (data / "train").rename(data / "elsewhere")
    assert told("sr", data, weights, capsys, monkeypatch).splitlines()[-1] == (
        f"error: {data}/train/spike_data: no spike files; expected SEQUENCE/NAME.dat in it "
        "(scripts/make_demo.py and scripts/make_gopro.py make such a folder)"
    )


def test_weights_of_another_stage_are_named(data, weights, capsys, monkeypatch):
    weights = {"bsn_path": weights["sr_path"], "sr_path": weights["bsn_path"]}
    line = told("deblur", data, weights, capsys, monkeypatch).splitlines()[-1]
    assert re.match(r"error: \S+/sr\.pth: not weights of BSN; it seems to hold SR \(EDSR\)\. ", line)


def test_a_state_of_another_version_is_named(data, weights, capsys, monkeypatch):
    path = run("sr", data, weights, steps=1) / "checkpoints/state.pth"
    torch.save({"format": 9}, path)
    line = told("sr", data, weights, capsys, monkeypatch).splitlines()[-1]
    assert line == f"error: {path}: state of format 9, this code reads 1 and 2; move it away to start anew"


def test_a_broken_record_of_a_run_is_named(data, weights, capsys, monkeypatch):
    record = run("sr", data, weights, steps=1) / "options.json"
    record.write_text("{")
    line = told("sr", data, weights, capsys, monkeypatch).splitlines()[-1]
    assert line.startswith(f"error: {record}: no readable JSON (")
    assert line.endswith("--force_resume writes a new one")


def test_all_faults_are_told_at_once(data, weights, capsys, monkeypatch):
    """Also those that only decoding finds: a picture that is broken in its middle."""
    empty(data / "train/spike_data/scene/000000.dat")
    Path.unlink(data / "train/blur_data/scene/000001.png")
    middle = data / "train/blur_data/scene/000002.png"
    content = bytearray(middle.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 50] = bytes(50)
    middle.write_bytes(content)
    constant(0)(data / "test/spike_data/scene/000001.dat")
    lines = told("sr", data, weights, capsys, monkeypatch, check_data=True, evaluate_every=1).splitlines()
    found = [line for line in lines if line.startswith(str(data))]
    assert [line.split(":")[0].removeprefix(f"{data}/") for line in found] == [
        "train/spike_data/scene/000000.dat",
        "train/blur_data/scene/000001.png",
        "train/blur_data/scene/000002.png",
        "test/spike_data/scene/000001.dat",
    ]
    assert lines[-1].endswith(": 4 faults in the data, listed above; repair or remove these samples")
    assert not list(data.parent.glob("log/sr/tiny/checkpoints/*"))


PICTURES_WITHOUT_SPIKES = [
    f"{{root}}/{picture}: left out, it has no {{root}}/{SPIKES}; copy that too, or remove the picture"
    for picture in (BLUR, SHARP)
]


@pytest.mark.parametrize(
    "stage, missing, faults",
    [
        ("sr", SPIKES, PICTURES_WITHOUT_SPIKES),
        ("bsn", SPIKES, PICTURES_WITHOUT_SPIKES),
        ("sr", BLUR, [f"{{root}}/{BLUR}: missing; {{root}}/{SPIKES} needs it (.png, .jpg, .jpeg)"]),
        ("bsn", BLUR, [f"{{root}}/{BLUR}: missing; {{root}}/{SPIKES} needs it (.png, .jpg, .jpeg)"]),
    ],
)
def test_a_partner_that_is_missing_is_named_by_any_of_the_others(
    data, weights, capsys, monkeypatch, stage, missing, faults
):
    (data / missing).unlink()
    lines = told(stage, data, weights, capsys, monkeypatch, check_data=True).splitlines()
    assert [line for line in lines if line.startswith(str(data))] == [x.replace("{root}", str(data)) for x in faults]
    assert lines[-1].startswith(f"error: {data}: {len(faults)} fault")


def test_pictures_without_spikes_are_not_left_out_silently(data, weights, capsys):
    (data / SPIKES).unlink()
    run("sr", data, weights, steps=1)
    assert f"WARNING: {data / BLUR}: left out, it has no {data / SPIKES}; " in capsys.readouterr().err


def test_whole_data_are_called_whole_and_trained_on(data, weights, capsys):
    run("sr", data, weights, check_data=True, steps=1, evaluate_every=1)
    assert f"{data}: all files of train and test are whole" in capsys.readouterr().err


def test_names_with_spaces_brackets_and_any_alphabet_are_names(data, weights):
    for split in ("train", "test"):
        for kind in ("spike_data", "blur_data", "sharp_data"):
            sequence = (data / split / kind / "scene").rename(data / split / kind / "a [1] (ü) 雪 #%'\"")
            for path in list(sequence.iterdir()):
                path.rename(sequence / f"*? {path.name}")
    finished = run("sr", data, weights, epochs=1, evaluate_every=1, check_data=True)
    assert len(list(finished.glob("step-*/a * TFP_97 nearest.png"))) == 2


def test_a_split_of_one_sample_and_pictures_smaller_than_the_crop_are_enough(tmp_path, weights):
    one = make_data(tmp_path / "one", train=1, test=1)
    assert (run("sr", one, weights, epochs=1, bs=2, roi_size=(512,)) / "checkpoints/SR_0001.pth").is_file()


def test_rows_are_those_of_the_sensor_however_a_camera_was_held(tmp_path):
    """Else a picture lies turned beside its spikes, and a header says another size than the pixels have."""
    path, pixels = tmp_path / "held.jpg", np.zeros((32, 64, 3), np.uint8)
    pixels[:16] = 255
    held = Image.Exif()
    for held[0x0112] in (1, 3, 6):  # orientation
        Image.fromarray(pixels).save(path, exif=held)
        assert read_image(path).shape == (32, 64, 3) and image_size(path) == (32, 64)
        assert read_image(path)[:12].mean() > 250


def test_a_jpeg_of_several_pictures_is_its_first(tmp_path):
    one, other = (Image.new("RGB", (64, 32), colour) for colour in ("white", "black"))
    one.save(tmp_path / "telephone.jpg", format="MPO", save_all=True, append_images=[other])
    assert check_image(tmp_path / "telephone.jpg") == (32, 64) and read_image(tmp_path / "telephone.jpg").min() > 250


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_broken_record_of_labels_is_named(data, weights, capsys, monkeypatch, content):
    labels = data.parent / "labels/train"
    labels.mkdir(parents=True)
    (labels / "teacher.json").write_text(content)
    told_ = told("deblur", data, weights, capsys, monkeypatch, teacher_cache=str(labels.parent)).splitlines()[-1]
    assert told_.startswith(f"error: {labels}/teacher.json: no readable JSON") and told_.endswith("name a new folder")


@pytest.mark.parametrize("flag, value", [("seed", -1), ("workers", -1), ("steps", 0), ("evaluate_every", -1)])
def test_numbers_that_cannot_be_meant_are_refused_before_anything_is_made(data, weights, flag, value):
    with pytest.raises(InputError, match=rf"--{flag} {value}: has to be [01] or more"):
        run("sr", data, weights, **{flag: value})
    assert not (data.parent / "log").exists()


@pytest.mark.parametrize(
    "name, read",
    [("locked.dat", lambda path: read_packed(path, 8, 16)), ("locked.png", read_image), ("locked.png", image_size)],
)
def test_a_file_that_may_not_be_read_is_named(name, read):
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        path, root = Path(place, name), os.geteuid() == 0
        write_spikes(path, np.zeros((137, 8, 16), np.uint8))
        os.chmod(path, 0)
        os.chmod(place, 0o755)
        if root:
            try:
                os.seteuid(65534)  # root may read everything
            except OSError:
                pytest.skip("root of a container that may not become another user")
        try:
            with pytest.raises(InputError, match=rf"{name}: .*cannot be read \(Permission denied\)"):
                read(path)
        finally:
            if root:
                os.seteuid(0)
