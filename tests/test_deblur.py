"""Deblurring files of one's own: right pictures, whole or in tiles; every wrong input is said in one line."""

import dataclasses
import re
import sys
import tracemalloc
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from codes import recipe
from codes.cli import parse, program
from codes.data.images import read_image, write_image
from codes.data.spikes import Exposure, read_spikes, write_spikes
from codes.distillation.student_input import closed_form_input
from codes.distillation.teachers import ClosedFormTeacher, NetworkTeacher
from codes.errors import InputError
from codes.motion.compensation import motion_compensated_intensity
from codes.networks import BSN, EDSR, LDN, tiling
from codes.networks.bsn import Decoder, Encoder
from codes.physics.intensity import isi_intensity
from codes.physics.sdm import sdm, tfp
from codes.recipe import ISI, RESIM
from codes.restoration.outputs import MASK
from codes.restoration.reconstruction import Student, averaged_times
from codes.restoration.restorers import METHODS
from codes.simulation.camera import integrate, sense
from scripts import deblur
from scripts.deblur import Options, main

HEIGHT, WIDTH = 96, 160
# Flags that only some methods use; all methods use the others.
USED_BY = {
    **dict.fromkeys(("deblur_path", "consistency", "iterations", "spike_deblur_len", "compile"), ("ldn",)),
    **dict.fromkeys(("bsn_path", "sr_path", "center_weight"), ("teacher",)),
    **dict.fromkeys(("tile", "precision"), ("ldn", "teacher")),
    **dict.fromkeys(("flow", "raft_path"), ("ldn", "mfsr")),
    "colour": ("ldn", "mfsr", "teacher", "sdm"),
    "spike_input": ("ldn", "teacher", "sdm"),
    "bsn_len": ("ldn", "teacher", "sdm", "tfp"),
}
NETS = {"deblur_path": LDN, "bsn_path": BSN, "sr_path": EDSR}


def scene(frames: int, first: int = 20, length: int = 97) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Film a shadow that moves over coloured slopes: blurry picture, spikes, all pictures."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    film = []
    for t in range(frames):
        disc = np.hypot(rows - 40, columns - 30 - 90 * t / frames) < 18
        frame = np.stack((150 - rows, 40 + columns / 2, 90 + 60 * np.sin(rows / 9)), 2)
        film.append(np.where(disc[..., None], 0.25 * frame, frame).astype(np.uint8))
    intensity = np.stack([sense(frame) for frame in film])
    spikes = integrate(intensity, first=np.random.default_rng(0).random(intensity.shape[1:], np.float32))
    return np.mean(film[first : first + length], 0).round().astype(np.uint8), spikes, np.stack(film)


def replace(o: Options, **change) -> Options:
    """Change options, and leave out those of the fixture and the weights that the method does not use."""
    new = dataclasses.replace(o, **change)
    if "times" in change and "frames" not in change:
        new = dataclasses.replace(new, frames=Options.frames)
    left_out = [flag for flag in ("spike_input", "colour", *NETS) if new.method not in USED_BY[flag]]
    return dataclasses.replace(new, **{flag: getattr(Options, flag) for flag in left_out})


@pytest.fixture(scope="session")
def filmed():
    return scene(137)


@pytest.fixture
def o(tmp_path, filmed) -> Options:
    """Options for a pair of files."""
    write_image(tmp_path / "blur.png", filmed[0])
    write_spikes(tmp_path / "spikes.dat", filmed[1])
    return Options(
        picture=str(tmp_path / "blur.png"),
        spikes=str(tmp_path / "spikes.dat"),
        out=str(tmp_path / "out"),
        method="sdm",
        spike_input="counts",
        colour="picture",
        frames=3,
        device="cpu",
    )


@pytest.fixture
def weights(tmp_path) -> dict[str, str]:
    torch.manual_seed(0)
    paths = {flag: str(tmp_path / f"{flag}.pth") for flag in NETS}
    for flag, net in NETS.items():
        torch.save(net().state_dict(), paths[flag])
    return paths


def written(folder: str | Path) -> list[str]:
    """List the frames and videos of an output folder; its record is tested by itself."""
    found = (path for path in Path(folder).rglob("*") if path.is_file() and path.name != "deblur.json")
    return sorted(path.relative_to(folder).as_posix() for path in found)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((one / 255.0 - other / 255.0) ** 2)))


def lively(net: nn.Module) -> nn.Module:
    """Give a network random weights that keep the size of what passes through, so that all of it matters."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter)
    return net.eval()


@pytest.mark.parametrize("height, width, tile", [(46, 61, 16), (30, 90, 20), (61, 29, 20)])
@torch.inference_mode()
def test_tiled_ldn_is_the_whole(height, width, tile):
    net, blur = lively(LDN()), torch.rand(1, 3, 4 * height, 4 * width)
    blur[..., : 2 * width] /= 4  # the parts differ: attention from a tile alone would be another one
    spikes = torch.randint(0, 2, (1, 21, height, width)).float()
    torch.testing.assert_close(tiling.tiled_ldn(net, blur, tile=tile)(spikes), net(blur, spikes), rtol=0, atol=1e-4)
    alone = tiling.tiled(net, blur, spikes, tile=tile, reach=tiling.LDN_REACH)
    assert (alone - net(blur, spikes)).abs().max() > 1 / 255


@torch.inference_mode()
def test_tiled_edsr_is_the_whole():
    net, intensity = lively(EDSR(features=4)), torch.rand(1, 1, 131, 20)
    whole = net(intensity)
    torch.testing.assert_close(tiling.TiledEDSR(net, tile=24)(intensity) / whole.std(), whole / whole.std())


@torch.inference_mode()
def test_tiled_bsn_is_the_whole():
    net = BSN()
    net.unet.enc1, net.unet.enc2, net.unet.enc3 = Encoder(1, 2, 2), Encoder(2, 2, 2), Encoder(2, 4, 2)
    net.unet.dec2, net.unet.dec1 = Decoder(4, 4), Decoder(5, 4)
    net.nin_A, net.nin_B, net.nin_C = (nn.Conv2d(16, out, 1) for out in (16, 16, 1))
    net, intensity = lively(net), torch.rand(1, 1, 249, 90)  # with fewer channels, for speed
    tiled = tiling.TiledBSN(net, tile=84)(intensity)
    torch.testing.assert_close(tiled, net(intensity), rtol=0, atol=1e-4)


def test_sdm_is_the_closed_form_and_nearer_the_truth(o, filmed):
    main(replace(o, bsn_len=21))
    blur, spikes, film = filmed
    assert written(o.out) == ["020.png", "068.png", "116.png"]
    B, S = torch.from_numpy(blur).permute(2, 0, 1)[None] / 255, torch.from_numpy(spikes)[None]
    large = [nn.functional.interpolate(tfp(S, 20, 21), scale_factor=4, mode="bilinear")]
    large.insert(0, nn.functional.interpolate(tfp(S, 68, 97), scale_factor=4, mode="bilinear"))
    wanted = sdm(B, *large).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    found = read_image(Path(o.out, "020.png"))
    assert np.abs(found - wanted).max() <= 0.51
    assert psnr(found, film[20]) > psnr(blur, film[20]) + 2


def test_rates_are_nearer_the_truth_than_counts_and_fusion_is_no_worse(o, filmed):
    far = {}
    for name, change in {"counts": {}, "isi": {"spike_input": "isi"}, "mfsr": {"method": "mfsr"}}.items():
        main(replace(o, **change, times=(30, 68), out=f"{o.out}_{name}"))
        far[name] = np.mean([psnr(read_image(Path(f"{o.out}_{name}", f"{t:03d}.png")), filmed[2][t]) for t in (30, 68)])
    assert far["isi"] > far["counts"] + 1 and far["mfsr"] > far["isi"] - 0.2


@pytest.mark.parametrize("recipe", [ISI, RESIM], ids=["isi", "resim"])
@pytest.mark.parametrize("tile", [0, 16])
def test_ldn_is_fed_what_its_weight_file_says(o, filmed, tmp_path, tile, recipe):
    torch.manual_seed(0)
    net, path = LDN().eval(), tmp_path / "isi.pth"
    torch.save({"net": net.state_dict(), "recipe": recipe}, path)
    iterations = 1 if recipe == RESIM else 0
    main(replace(o, method="ldn", spike_input="", deblur_path=str(path), times=(30,), tile=tile, iterations=iterations))
    with pytest.raises(InputError, match="made for --spike_input isi, asked for is counts"):
        main(replace(o, method="ldn", deblur_path=str(path), times=(30,), out=o.out + "_other"))
    blur = torch.from_numpy(filmed[0]).permute(2, 0, 1)[None].float() / 255
    spikes = torch.from_numpy(filmed[1])[None]
    times = [*range(20, 117, 8), 30]
    intensity = isi_intensity(spikes)
    intensity = motion_compensated_intensity(spikes, intensity) if recipe == RESIM else intensity
    given = closed_form_input(blur, intensity, times, length=21, short=9, exposure=Exposure())
    if recipe == RESIM:
        given = ClosedFormTeacher()(blur, spikes, times)[0], given[1]
    with torch.no_grad():
        sharp = net(*given)
    if recipe == RESIM:  # what the mean of thirteen times lacks of the picture is added everywhere
        sharp = sharp + blur - (sharp[:13].sum(0) - sharp[0] / 2 - sharp[12] / 2) / 12
    wanted = sharp[-1].clamp(0, 1).permute(1, 2, 0).numpy() * 255
    assert np.abs(read_image(Path(o.out, "030.png")) - wanted).max() <= 0.51


def test_few_spikes_are_looked_at_as_often_as_is_said(o, tmp_path):
    """At V_th 4, where the default is to look again."""
    intensity = np.stack([sense(frame) for frame in scene(137)[2]])
    first = np.random.default_rng(0).random(intensity.shape[1:], np.float32)
    write_spikes(o.spikes, integrate(intensity, threshold=4, first=first))
    torch.save({"net": LDN().pass_blur_through().state_dict(), "recipe": RESIM}, tmp_path / "resim.pth")
    found = {}
    for iterations in (0, 1, 3):
        ldn = {"method": "ldn", "spike_input": "", "deblur_path": str(tmp_path / "resim.pth"), "times": (68,)}
        main(replace(o, **ldn, iterations=iterations, out=f"{o.out}_{iterations}"))
        found[iterations] = read_image(Path(f"{o.out}_{iterations}", "068.png"))
    assert np.array_equal(found[0], found[3]) and not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("method", ["tfi", "tfp"])
def test_light_of_spikes_is_gray_and_as_bright_as_the_picture(o, method):
    main(replace(o, method=method, **({"bsn_len": 21} if method == "tfp" else {})))
    for name in written(o.out):
        image = read_image(Path(o.out, name))
        assert np.ptp(image.astype(int), axis=2).max() == 0
        gray = read_image(o.picture) @ np.array((0.11, 0.59, 0.30))
        assert image.mean() == pytest.approx(gray.mean(), rel=0.05)


def test_ldn_restores_as_the_network_does_whole_or_in_tiles(o, weights, filmed):
    main(replace(o, method="ldn", **weights, times=(68, 30)))
    main(replace(o, method="ldn", **weights, times=(68, 30), tile=16, out=o.out + "_tiled"))
    assert written(o.out) == written(o.out + "_tiled") == ["030.png", "068.png"]
    net = LDN().eval()
    net.load_state_dict(torch.load(weights["deblur_path"], weights_only=True))
    blur = torch.from_numpy(filmed[0]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        wanted = net(blur, torch.from_numpy(filmed[1][20:41]).float()[None]).clamp(0, 1)[0].permute(1, 2, 0) * 255
    found, tiled = (read_image(Path(folder, "030.png")).astype(int) for folder in (o.out, o.out + "_tiled"))
    assert np.abs(found - wanted.numpy()).max() <= 0.51
    assert np.abs(found - tiled).max() <= 1


def test_teacher_restores_as_the_teacher_does(o, weights, filmed):
    main(replace(o, method="teacher", **weights, times=(68,)))
    bsn, edsr = BSN(), EDSR()
    bsn.load_state_dict(torch.load(weights["bsn_path"], weights_only=True))
    edsr.load_state_dict(torch.load(weights["sr_path"], weights_only=True))
    blur = torch.from_numpy(filmed[0]).permute(2, 0, 1)[None] / 255
    wanted = NetworkTeacher(bsn, edsr)(blur, torch.from_numpy(filmed[1])[None], [68])[0, 0].permute(1, 2, 0) * 255
    assert np.abs(read_image(Path(o.out, "068.png")) - wanted.numpy()).max() <= 0.51


@pytest.mark.parametrize("rest", [0, 3])
def test_films_open_with_all_their_frames(o, rest):
    picture = read_image(o.picture)
    write_image(o.picture, picture[: HEIGHT - 4 + rest, :])  # 3 rows beyond a multiple of 4, or none
    write_spikes(o.spikes, read_spikes(o.spikes, 24, 40)[:, : (HEIGHT - 4 + rest) // 4])
    height = HEIGHT - 4 + rest
    main(replace(o, frames=7, video=o.out + ".gif"))
    with Image.open(o.out + ".gif") as film:
        assert (film.n_frames, film.size) == (7, (WIDTH, height))
        assert film.info["duration"] == 80  # milliseconds, of 12 frames a second: a GIF has steps of ten
    main(replace(o, frames=7, video=o.out + ".mp4", compare=True, force=True))
    film, frames = cv2.VideoCapture(o.out + ".mp4"), []
    while (taken := film.read())[0]:
        frames.append(taken[1])
    assert len(frames) == 7 and frames[0].shape == (height + height % 2, 2 * WIDTH, 3)
    content = Path(o.out + ".mp4").read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat"), (
        "the index is behind the data: browsers load it all first"
    )
    with av.open(o.out + ".mp4") as video:
        context = video.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p") and video.streams.video[0].average_rate == 12
    still = [read_image(Path(o.out, name)) for name in written(o.out)]
    assert all(psnr(frame[:height], image) > 25 for frame, image in zip(frames, still, strict=True))
    np.testing.assert_array_equal(still[3][:, :WIDTH], read_image(o.picture))


@pytest.mark.parametrize("height, width", [(24, 40), (23, 40)])
def test_sizes_that_are_no_multiples_of_4_stay(o, filmed, height, width):
    """Spikes may be a quarter rounded up, or rounded down as far as bytes allow."""
    write_image(o.picture, filmed[0][: 95 if height == 23 else 94, : 160 if height == 23 else 157])
    write_spikes(o.spikes, filmed[1][:, :height, :width])
    main(replace(o, times=(68,), bsn_len=21))
    image = read_image(Path(o.out, "068.png"))
    truth = filmed[2][68][: image.shape[0], : image.shape[1]]
    assert image.shape == read_image(o.picture).shape and psnr(image, truth) > psnr(read_image(o.picture), truth)


def test_resized_and_cropped_pairs(o, filmed):
    blur, _, film = filmed
    write_image(o.picture, cv2.resize(blur, (240, 144), interpolation=cv2.INTER_CUBIC))
    with pytest.raises(InputError, match=r"144x240.*24x40.*--align resize"):
        main(o)
    o = replace(o, bsn_len=21, times=(68,))
    main(replace(o, align="resize"))
    resized = read_image(Path(o.out, "068.png"))
    assert resized.shape == (HEIGHT, WIDTH, 3) and psnr(resized, film[68]) > psnr(blur, film[68])

    write_image(o.picture, np.pad(blur, ((8, 8), (0, 0), (0, 0)), mode="reflect")[:, 16:-16])
    main(replace(o, align="crop", force=True))
    cropped = read_image(Path(o.out, "068.png"))
    assert cropped.shape == (HEIGHT, WIDTH - 32, 3)
    assert psnr(cropped, film[68][:, 16:-16]) > psnr(blur[:, 16:-16], film[68][:, 16:-16])


def test_a_long_stream_is_told_its_exposure(o, tmp_path):
    blur, spikes, film = scene(220, first=60, length=120)
    write_image(o.picture, blur)
    np.savez(tmp_path / "long.npz", spk=spikes)
    o = replace(o, spikes=str(tmp_path / "long.npz"))
    with pytest.raises(InputError, match=r"220 frames.*--exposure START LENGTH"):
        main(o)
    main(replace(o, exposure=(60, 120), bsn_len=21))
    assert written(o.out) == ["060.png", "120.png", "179.png"]
    image = read_image(Path(o.out, "060.png"))
    assert psnr(image, film[60]) > psnr(blur, film[60]) + 2
    assert image.mean() == pytest.approx(film[60].mean(), rel=0.03)


def test_a_stream_without_margins_is_restored_as_far_as_windows_fit(o, filmed, capsys):
    write_spikes(o.spikes, filmed[1][20:117])
    main(replace(o, exposure=(0, 97)))
    assert written(o.out) == ["004.png", "048.png", "092.png"]
    assert "from 4 to 92: no window fits nearer to the ends of the stream" in capsys.readouterr().out
    with pytest.raises(InputError, match=r"--frames 90: the exposure has 89 target times with 9 spike frames around"):
        main(replace(o, exposure=(0, 97), frames=90, force=True))
    with pytest.raises(InputError, match=r"--frames 3: the exposure has 0 target times with 99 spike frames around"):
        main(replace(o, exposure=(0, 97), bsn_len=99, force=True))


def test_a_camera_with_a_gamma_is_found_and_undone(o, filmed, capsys):
    main(o)
    assert "to the power" not in capsys.readouterr().out
    truth = [read_image(path) for path in sorted(Path(o.out).glob("*.png"))]
    written_so = np.rint(255 * (read_image(o.picture) / 255) ** (1 / 2.2)).astype(np.uint8)
    write_image(o.picture, written_so)
    main(replace(o, gamma=1.0, force=True))
    (gamma,) = re.findall(r"to the power of 0\.\d+, black is \d+: --gamma (\d\.\d)", capsys.readouterr().out)
    assert float(gamma) == pytest.approx(2.2, abs=0.3)
    for given, tolerance in ((2.2, 2.5), (0.0, 6.0)):  # 8 bits are coarse at the bright end; estimated
        main(replace(o, gamma=given, force=True))
        assert ("undone for the restoration" in capsys.readouterr().out) == (not given)
        images = map(read_image, sorted(Path(o.out).glob("*.png")))
        for image, linear in zip(images, truth, strict=True):
            np.testing.assert_allclose(255 * (image / 255) ** 2.2, linear, atol=tolerance)


def test_what_spoils_a_recording_is_told(o, filmed, capsys):
    blur, spikes, _ = filmed
    main(o)
    told = capsys.readouterr().out
    assert "  aligned" in told and not re.search("NO SPIKE|nearly black|saturated", told)
    write_spikes(o.spikes, np.where(np.isin(np.arange(137), (66, 67))[:, None, None], 0, spikes).astype(np.uint8))
    write_image(o.picture, blur // 32)
    main(replace(o, force=True))
    told = capsys.readouterr().out
    assert "  NO SPIKE in 2 frames, first in 66, lost on the way: bridged" in told and "nearly black" in told
    main(replace(o, repair=False, force=True))
    assert "  NO SPIKE in 2 frames, first in 66, lost on the way: left" in capsys.readouterr().out
    write_image(o.picture, np.where(np.arange(len(blur))[:, None, None] < 8, 255, blur).astype(np.uint8))
    main(replace(o, force=True))
    assert re.search(r"\d+% of the picture is saturated", capsys.readouterr().out)
    write_image(o.picture, np.roll(blur, 5, 1))
    main(replace(o, force=True))
    assert "NOT ALIGNED, see inspect_spikes.py" in capsys.readouterr().out


@pytest.mark.parametrize("empty, told", [(range(80, 117), "37 of the 97"), (range(95), "75 of the 97")])
def test_an_exposure_of_empty_spike_frames_is_refused(o, filmed, empty, told):
    write_spikes(o.spikes, np.where(np.isin(np.arange(137), empty)[:, None, None], 0, filmed[1]).astype(np.uint8))
    with pytest.raises(InputError, match=rf"spikes\.dat: {told} spike frames of the exposure are empty, from"):
        main(o)


def test_nothing_is_written_where_the_blurry_pictures_are(o):
    with pytest.raises(InputError, match=r"--out .*: lies where the blurry pictures are"):
        main(replace(o, out=str(Path(o.picture).parent), force=True))
    Path(o.spikes).rename(Path(o.picture).with_suffix(".dat"))
    folder = str(Path(o.picture).parent)
    with pytest.raises(InputError, match=r"--out .*/sharp/blur: lies where the blurry pictures are"):
        main(replace(o, picture=folder, spikes="", out=f"{folder}/sharp"))


@pytest.mark.parametrize("flag, value", [("gamma", float("nan")), ("gamma", 1e9), ("fps", float("inf")), ("frames", 0)])
def test_numbers_without_meaning_are_refused(o, flag, value):
    with pytest.raises(InputError, match=rf"--{flag} .*accepted"):
        main(replace(o, **{flag: value}))
    assert not Path(o.out).exists()


def test_of_a_long_recording_the_exposure_alone_is_read(o, tmp_path, filmed):
    """Half a million frames, 0.5 GB unpacked: nearly all of them a hole in the file."""
    main(replace(o, times=(25, 68), method="tfi"))
    usual, pair, frame = [read_image(Path(o.out, name)) for name in written(o.out)], filmed[1], 24 * 40 // 8
    with open(tmp_path / "long.dat", "wb") as file:
        file.truncate(500_001 * frame)
        file.seek(250_000 * frame)
        file.write(Path(o.spikes).read_bytes())
    o = replace(o, spikes=str(tmp_path / "long.dat"), exposure=(250_020, 97), out=o.out + "_long", method="tfi")
    tracemalloc.start()
    main(replace(o, times=(250_025, 250_068)))
    assert tracemalloc.get_traced_memory()[1] < 20e6 < 500_001 * pair[0].size
    tracemalloc.stop()
    for name, image in zip(written(o.out), usual, strict=True):
        assert np.abs(read_image(Path(o.out, name)).astype(int) - image).max() <= 1, name


def test_a_gif_of_more_frames_a_second_than_are_shown_is_refused(o):
    with pytest.raises(InputError, match=r"--fps 60: a GIF shows at most 50 frames a second; .*\.mp4"):
        main(replace(o, video=o.out + ".GIF", fps=60.0))


def test_folders_of_pairs(o, tmp_path, data, filmed, capsys):
    for name in ("a", "b"):
        write_image(tmp_path / f"both/{name}.png", filmed[0])
        write_spikes(tmp_path / f"both/{name}.dat", filmed[1])
    main(replace(o, picture=str(tmp_path / "both"), spikes="", times=(20, 68), video="film.gif"))
    assert written(o.out) == [f"{pair}/{name}" for pair in "ab" for name in ("020.png", "068.png", "film.gif")]
    assert "NOT ALIGNED" not in capsys.readouterr().out
    write_image(tmp_path / "both/b.png", np.roll(filmed[0], 5, 1))
    main(replace(o, picture=str(tmp_path / "both"), spikes="", times=(68,), force=True))
    told = capsys.readouterr().out
    assert told.splitlines()[-1] == f"NOT ALIGNED are 1 of 2 pairs, see above: {tmp_path / 'both/b.png'}"
    (tmp_path / "both/b.dat").unlink()
    (tmp_path / "both/.hidden.dat").touch()
    main(replace(o, picture=str(tmp_path / "both"), spikes="", force=True))
    assert re.search(r"1 pictures without spikes left out: .*b\.png\n", capsys.readouterr().out)
    (tmp_path / "both/a.dat").unlink()
    with pytest.raises(InputError, match=r"a\.png: no spike file of the same name"):
        main(replace(o, picture=str(tmp_path / "both"), spikes="", force=True))
    with pytest.raises(InputError, match=r"is a data set; name one of its splits: .*test"):
        main(replace(o, picture=str(data), spikes=""))
    set_out = str(tmp_path / "set")
    main(
        replace(
            o,
            picture=str(data / "test"),
            spikes="",
            times=(68,),
            out=set_out,
            rows="bottom",
            bits="lowest",
            geometry=(8, 16),
        )
    )
    assert written(set_out) == ["scene/000000/068.png", "scene/000001/068.png"]


def test_pairs_that_are_done_stay_and_the_others_are_restored(o, tmp_path, filmed, capsys):
    for name in "abc":
        write_image(tmp_path / f"both/{name}.png", filmed[0])
        write_spikes(tmp_path / f"both/{name}.dat", filmed[1])
    o = replace(o, picture=str(tmp_path / "both"), spikes="", times=(20, 68), video="film.gif")
    main(o)
    files = {name: Path(o.out, name) for name in written(o.out)}
    before = {name: path.read_bytes() for name, path in files.items()}
    files["b/068.png"].unlink()
    files["c/film.gif"].unlink()
    times = {name: path.stat().st_mtime_ns for name, path in files.items() if path.exists()}
    with pytest.raises(InputError, match=r"out/a: exists and is not empty.*--missing"):
        main(o)
    capsys.readouterr()
    main(replace(o, missing=True))
    assert {name: path.read_bytes() for name, path in files.items()} == before
    restored = {name for name, path in files.items() if path.stat().st_mtime_ns != times.get(name)}
    assert {name[0] for name in restored} == {"b", "c"}
    assert "a.png: its frames are in" in capsys.readouterr().out


def wrong(o: Options, case: str, filmed: tuple) -> tuple[Options, str]:
    """Make one input wrong; return the options and what has to be said."""
    blur, spikes, _ = filmed
    data = Path(o.spikes).read_bytes()
    if case == "sizes swapped on the command line":
        return replace(o, geometry=(40, 24)), r"picture is 96x160, the spikes are 40x24"
    if case == "sizes swapped in the file":
        write_spikes(o.spikes, spikes.transpose(0, 2, 1))
        return o, r"the spikes show the picture turned by 90 degrees .*--orientation turned_right_mirrored"
    if case == "bits reversed":
        Path(o.spikes).write_bytes(np.packbits(np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")))
        return o, r"looks like .* highest bit first"
    if case == "rows from the top":
        write_spikes(o.spikes, spikes[:, ::-1])
        return o, r"looks like .* rows from the top"
    if case == "cut short":
        Path(o.spikes).write_bytes(data[:-50])
        return o, r"16390 bytes are not whole frames of 24x40 .*cut short"
    if case == "of another size":
        write_spikes(o.spikes, spikes[:, :23])
        return o, r"not whole frames of 24x40.*96x160.*23x40.*--align"
    if case == "picture missing":
        Path(o.picture).unlink()
        return o, r"blur\.png: no such picture or folder"
    if case == "spikes missing":
        Path(o.spikes).unlink()
        return o, r"spikes\.dat: no such spike file"
    if case == "weights of another stage":
        torch.save(EDSR().state_dict(), Path(o.spikes).with_suffix(".pth"))
        return replace(o, method="ldn", deblur_path=str(Path(o.spikes).with_suffix(".pth"))), r"seems to hold SR"
    if case == "no weights":
        return replace(o, method="teacher"), r"--bsn_path is missing.*BSN\.pth or BSN_1000\.pth"
    if case == "time outside":
        return replace(o, times=(68, 135)), r"--times 135: .*4\.\.132 are accepted"
    if case == "exposure outside":
        return replace(o, exposure=(50, 97)), r"--exposure 50 97: frames 50\.\.146"
    if case == "iterations of another method":
        return replace(o, iterations=2), r"--iterations: not used by --method sdm, only by ldn"
    if case == "iterations of weights without MFSR":
        path = Path(o.spikes).with_suffix(".pth")
        torch.save({"net": LDN().state_dict(), "recipe": ISI}, path)
        ldn = {"method": "ldn", "spike_input": "", "deblur_path": str(path)}
        return replace(o, iterations=2, **ldn), r"--iterations 2: .*spikes\.pth is not fed super-resolved input"
    if case == "output not empty":
        write_image(Path(o.out, "068.png"), blur)
        return o, r"out: exists and is not empty.*--force"
    if case == "film exists":
        Path(o.out + ".gif").touch()
        return replace(o, video=o.out + ".gif"), r"out\.gif: exists"
    assert case == "film of another kind"
    return replace(o, video=o.out + ".avi"), r"\.mkv or \.gif"


@pytest.mark.parametrize(
    "case",
    ["sizes swapped on the command line", "sizes swapped in the file", "bits reversed", "rows from the top",
     "cut short", "of another size", "picture missing", "spikes missing", "weights of another stage", "no weights",
     "time outside", "exposure outside", "iterations of another method", "iterations of weights without MFSR",
     "output not empty", "film exists", "film of another kind"],
)  # fmt: skip
def test_wrong_input_is_said_in_one_line_and_nothing_is_written(o, case, filmed, monkeypatch, tmp_path):
    monkeypatch.setattr(recipe, "MODEL", tmp_path / "nowhere")
    options, message = wrong(o, case, filmed)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(InputError, match=message) as error:
        main(options)
    assert "\n" not in str(error.value)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("change, flags", [("bits", {"bits": "highest"}), ("rows", {"rows": "top"})])
def test_an_unusual_file_is_read_when_told_so(o, filmed, change, flags):
    main(replace(o, times=(68,)))
    usual = read_image(Path(o.out, "068.png"))
    wrong(o, {"bits": "bits reversed", "rows": "rows from the top"}[change], filmed)
    main(replace(o, times=(68,), force=True, **flags))
    np.testing.assert_array_equal(read_image(Path(o.out, "068.png")), usual)


def test_the_command_ends_with_one_line_and_code_2(o, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["deblur.py", o.picture, "nowhere.dat", "--method", "tfi", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        program(main, Options, deblur.__doc__)
    assert ended.value.code == 2 and capsys.readouterr().err == "error: nowhere.dat: no such spike file or folder\n"


@pytest.mark.parametrize("consistency", ["none", "picture"])
def test_any_weights_can_be_made_to_agree_with_the_picture(o, weights, consistency):
    """The mean of all that is restored, ends counted half, is the picture but for rounding and clipping."""
    times = tuple(range(20, 117, 8))
    main(replace(o, method="ldn", **weights, times=times, consistency=consistency))
    sharp = np.stack([read_image(Path(o.out, f"{t:03d}.png")).astype(float) for t in times])
    mean = (sharp.sum(0) - (sharp[0] + sharp[-1]) / 2) / 12
    inside = ((sharp > 0) & (sharp < 255)).all(0)
    error = np.abs(mean - read_image(o.picture))[inside].max()
    assert inside.mean() > 0.3 and (error < 0.6 if consistency == "picture" else error > 2)
    with pytest.raises(InputError, match="--consistency: not used by --method sdm, only by ldn"):
        main(replace(o, method="sdm", consistency="picture"))


@pytest.mark.parametrize(
    ("exposure", "total", "number"),
    [((20, 97), 137, 13), ((10, 15), 40, 15), ((12, 5), 40, 5), ((20, 1), 40, 1), ((4, 15), 40, 0)],
)
def test_the_mean_is_over_enough_times_or_not_known(exposure, total, number):
    """Of a short exposure as many as it has; where windows of 21 frames do not fit around its ends, none."""
    first, length = exposure
    times = averaged_times(Student(LDN(), RESIM), Exposure(length=length, margin=first), total)
    assert len(set(times)) == number and not averaged_times(Student(LDN(), ISI), Exposure(), 137)
    assert not times or (times[0], times[-1]) == (first, first + length - 1)


COMMON = {"picture", "spikes", "out", "method", "frames", "times", "exposure", "video", "fps", "compare", "align"}
COMMON |= {"mask", "rig", "orientation", "repair", "geometry", "rows", "bits", "gamma", "device", "force", "missing"}


@pytest.mark.parametrize("geometry", [(), (16, 16)])
@pytest.mark.parametrize("value", [0, 1])
def test_a_stream_without_variation_says_nothing(o, filmed, value, geometry):
    write_spikes(o.spikes, np.full_like(filmed[1], value))
    with pytest.raises(InputError, match=rf"shows nothing, all pixels fire alike \({value}.000 times a spike frame\)"):
        main(replace(o, geometry=geometry and filmed[1].shape[1:]))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("flag", [field.name for field in dataclasses.fields(Options)])
def test_a_flag_that_a_method_does_not_use_is_refused_by_name(method, flag):
    """A new flag belongs either to COMMON or to USED_BY."""
    assert (flag in COMMON) != (flag in USED_BY)
    if flag in COMMON:
        return
    default = getattr(Options, flag)
    value = {"consistency": "picture", "spike_input": "counts", "tile": 16, "precision": "bf16", "compile": True}
    value |= {"colour": "picture", "flow": "raft"}
    given = value.get(flag, "file.pth" if default == "" else 1.0 if isinstance(default, float) else 3)
    o = Options(picture="missing.png", spikes="missing.dat", method=method, **{flag: given})
    if method in USED_BY[flag]:
        deblur.check(replace(o, flow="raft") if flag == "raft_path" else o)
    else:
        with pytest.raises(InputError, match=f"--{flag}: not used by --method {method}"):
            deblur.check(o)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": (68,), "frames": 7}, "--frames: not used beside --times"),
        ({"fps": 3.0}, "--fps: not used without --video"),
        ({"force": True, "missing": True}, "--force: not used beside --missing"),
    ],
)
def test_flags_that_exclude_each_other_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        deblur.check(Options(picture="missing.png", **change))


@pytest.mark.parametrize("flag", [f.name for f in dataclasses.fields(Options) if isinstance(f.default, int | float)])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**9])
def test_every_number_has_a_range(flag, value):
    if isinstance(getattr(Options, flag), bool):
        return
    method = USED_BY.get(flag, METHODS)[-1] if flag != "tile" else "ldn"
    with pytest.raises(InputError, match=f"--{flag} "):
        deblur.check(Options(picture="missing.png", method=method, video="a.gif", **{flag: value}))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--method mfsr --bsn_len 9", "--bsn_len: not used by --method mfsr, only by ldn, teacher, sdm, tfp"),
        ("--method sdm --looks 0", "--iterations: not used by --method sdm"),
        ("--method tfi --precision fp32", "--precision: not used by --method tfi"),
        ("--times 68 --frames 25", "--frames: not used beside --times"),
        ("--fps 12", "--fps: not used without --video"),
    ],
)
def test_a_default_that_is_given_and_not_used_is_refused_too(words, message):
    with pytest.raises(InputError, match=message):
        parse(Options, "", ["missing.png", *words.split()])
    used = parse(Options, "", ["missing.png", "--bsn_len", "9", "--frames", "25"])
    assert used == Options(picture="missing.png")


@pytest.mark.parametrize("recipe, is_told", [(RESIM, True), (ISI, False)], ids=["resim", "isi"])
def test_weights_whose_data_consistency_is_left_out_say_so(o, filmed, tmp_path, capsys, recipe, is_told):
    torch.save({"net": LDN().pass_blur_through().state_dict(), "recipe": recipe}, tmp_path / "LDN.pth")
    o = replace(o, method="ldn", spike_input="", deblur_path=str(tmp_path / "LDN.pth"), times=(40,))
    main(o)
    assert "WITHOUT DATA CONSISTENCY" not in capsys.readouterr().out
    write_spikes(o.spikes, filmed[1][20:117])
    main(replace(o, exposure=(0, 97), force=True))
    assert ("  WITHOUT DATA CONSISTENCY" in capsys.readouterr().out) == is_told


@pytest.mark.parametrize("method, is_tiled", [("sdm", False), ("ldn", True)])
def test_too_little_memory_names_what_helps(o, weights, monkeypatch, method, is_tiled):
    def exhausted(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(deblur, "restorer", lambda *_, **__: exhausted)
    with pytest.raises(InputError, match=r"cpu: too little memory for 3 frames of 96x160; .*fewer --times") as error:
        main(replace(o, method=method, **weights))
    assert ("--tile" in str(error.value)) == is_tiled


@pytest.mark.parametrize("error", [NotImplementedError("no such kernel"), RuntimeError("an illegal access")])
def test_other_errors_of_pytorch_are_not_called_memory(o, monkeypatch, error):
    def fails(*_, **__):
        raise error

    monkeypatch.setattr(deblur, "restorer", lambda *_, **__: fails)
    with pytest.raises(type(error), match=str(error)):
        main(o)


def test_a_missing_mask_is_written(o):
    main(o)
    main(replace(o, missing=True, mask=True))
    assert (read_image(Path(o.out, MASK)) == 255).all()


def test_missing_continues_what_was_made_with_the_same_alone(o, capsys):
    main(o)
    before = read_image(Path(o.out, "068.png"))
    Path(o.out, "068.png").write_bytes(Path(o.out, "068.png").read_bytes()[:200])  # cut short
    with pytest.raises(InputError, match=r"--missing: .*out was made otherwise \(--bsn_len: 9 then, 21 now\)"):
        main(replace(o, missing=True, bsn_len=21))
    main(replace(o, missing=True))
    np.testing.assert_array_equal(read_image(Path(o.out, "068.png")), before)
    content = bytearray(Path(o.out, "068.png").read_bytes())
    content[len(content) // 2] ^= 255  # damaged between an intact header and end
    Path(o.out, "068.png").write_bytes(content)
    main(replace(o, missing=True))
    np.testing.assert_array_equal(read_image(Path(o.out, "068.png")), before)
    write_image(o.picture, read_image(o.picture) // 2)
    with pytest.raises(
        InputError, match=r"made otherwise \(picture: content sha256 \w+ then, content sha256 \w+ now\)"
    ):
        main(replace(o, missing=True))
    Path(o.out, "deblur.json").unlink()
    with pytest.raises(InputError, match=r"--missing: .*out has no deblur\.json"):
        main(replace(o, missing=True))


def test_force_names_the_frames_that_stay(o, capsys):
    main(o)
    capsys.readouterr()
    main(replace(o, force=True, times=(68,)))
    assert re.search(r"2 frames of another run stay in .*out: 020\.png, 116\.png\n", capsys.readouterr().out)


def test_colours_are_corrected_along_motion_at_any_time(o):
    """One frame alone is that of a whole exposure, and a time between these is next to its neighbours."""
    o = replace(o, spike_input="isi", colour="motion")
    main(replace(o, frames=13))
    main(replace(o, times=(68, 70), out=f"{o.out}_2"))
    main(replace(o, times=(70,), out=f"{o.out}_3", colour="picture"))
    whole, alone = (read_image(Path(folder, "068.png")) for folder in (o.out, f"{o.out}_2"))
    between, uncorrected = (read_image(Path(f"{o.out}_{n}", "070.png")) for n in (2, 3))
    np.testing.assert_array_equal(alone, whole)
    chroma = [x - x @ np.float64([[0.11], [0.59], [0.30]]) for x in (between, uncorrected, whole)]
    assert psnr(chroma[0], chroma[2]) > psnr(chroma[1], chroma[2]) + 1


def test_colours_are_those_of_the_picture_where_the_stream_has_no_margins(o, filmed, capsys):
    write_spikes(o.spikes, filmed[1][20:117])
    o = replace(o, exposure=(0, 97), times=(48,))
    main(o)
    main(replace(o, colour="motion", out=f"{o.out}_2"))
    assert "  WITHOUT COLOUR CORRECTION" in capsys.readouterr().out
    np.testing.assert_array_equal(*(read_image(Path(folder, "048.png")) for folder in (o.out, f"{o.out}_2")))
    main(replace(o, method="mfsr", colour="motion", out=f"{o.out}_3"))  # which needs no spike frames around a time
    assert "WITHOUT" not in capsys.readouterr().out


def test_data_consistency_is_refused_where_the_stream_has_no_margins(o, weights, filmed):
    write_spikes(o.spikes, filmed[1][20:117])
    with pytest.raises(InputError, match=r"--consistency picture: the stream of .* ends too close to the exposure"):
        main(replace(o, method="ldn", **weights, exposure=(0, 97), consistency="picture"))
    assert not Path(o.out).exists()
