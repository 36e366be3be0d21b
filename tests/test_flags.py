"""No flag is ignored: each is used in every mode of its program, or refused or named where it would not be."""

import dataclasses
import os
import re
import shlex
from importlib import import_module
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_data

import train_bsn
import train_deblur
from codes.cli import parse
from codes.data.images import write_image
from codes.data.spikes import write_spikes
from codes.engine import Journal
from codes.errors import InputError
from codes.networks import BSN, EDSR, LDN
from codes.recipe import ISI, PUBLISHED
from codes.stage.student_options import without_use

ROOT = Path(__file__).resolve().parent.parent
USED = ()  # in every mode
FILM = "frames a.dat --clock 20 162 97 --spike_rate 20000"


def refused(words: str, message: str) -> tuple[tuple[str, str, str], ...]:
    """A command line in which a flag is not used, or its value means nothing, and what it is refused with."""
    return (("refused", words, message),)


def told(words: str, why: str) -> tuple[tuple[str, str, str], ...]:
    """A command line in which a flag changes nothing, and the reason that is given."""
    return (("told", words, why),)


def only_trained(words: str) -> tuple[tuple[str, str, str], ...]:
    """A flag of the training alone."""
    return told(f"--test_mode {words}", "with --test_mode")


STAGE = {
    "base_folder": refused(
        "--base_folder data/train", "data/train: is a split of a data set; give the folder above it"
    ),
    **dict.fromkeys(("save_folder", "exp_name", "test_mode", "use_small", "device", "check_data"), USED),
    "data_type": refused("--data_type real --base_folder data", "data/test/sharp_data would not be compared with")
    + refused("--data_type GOPRO --base_folder real", "real: holds samples itself, not in train and test"),
    "train_split": only_trained("--train_split test")
    + told("--data_type real --base_folder real --train_split test", "with --data_type real, real has no folder test"),
    "lr": only_trained("--lr 1e-2"),
    "epochs": only_trained("--epochs 3"),
    "steps": only_trained("--steps 3"),
    "bs": only_trained("--bs 8"),
    "roi_size": only_trained("--roi_size 256"),
    "seed": only_trained("--seed 1"),
    "augment": only_trained("--augment"),
    "bsn_path": USED,
    "bsn_len": USED,
    "width": refused("--base_folder data --width 64", "--height and --width belong together"),
    "height": refused("--base_folder data --height 32", "--height and --width belong together"),
    "spike_full": USED,
    "recipe": USED,
    "spike_input": refused("--recipe reference --spike_input isi", "--spike_input isi: contradicts --recipe reference"),
    "workers": told("--cache ram --evaluate_every 0 --workers 2", "with --cache ram and --evaluate_every 0"),
    "cache": only_trained("--cache ram"),
    "precision": told("--device cpu --precision tf32", "on a CPU, which has no TF32"),
    "deterministic": told("--device cpu --deterministic", "on a CPU, which always computes the same"),
    "compile": only_trained("--compile"),
    "evaluate_every": only_trained("--evaluate_every 5"),
    "save_every": only_trained("--save_every 5"),
    "force_resume": only_trained("--force_resume"),
}
ENLARGED = refused("--spike_full", "--spike_full: EDSR and LDN enlarge spikes by 4")
TAUGHT = "--base_folder data --bsn_path bsn.pth --sr_path sr.pth"
RESIMULATED = "--base_folder resimulated --tea_loss ssim"
SIMULATED = "not used with the truth of re-simulated scenes"
FLAGS = {
    "train_bsn": STAGE
    | {"bsn_path": refused("--test_mode", "--bsn_path is missing"), "blur_step": only_trained("--blur_step 12")},
    "train_sr": STAGE
    | {
        "sr_path": refused("--test_mode", "--sr_path is missing"),
        "spike_full": ENLARGED,
        "bsn_len": told("--bsn_len 5", "without --bsn_path"),
        "bsn_path": told("--evaluate_every 0 --bsn_path bsn.pth", "with --evaluate_every 0"),
    },
    "train_deblur": STAGE
    | {
        "sr_path": refused("--base_folder data --sr_path sr.pth", "--bsn_path is missing"),
        "bsn_path": refused("--base_folder data --bsn_path bsn.pth", "--sr_path is missing"),
        "deblur_path": refused(f"--test_mode {TAUGHT}", "--deblur_path is missing"),
        "spike_full": ENLARGED,
        "recipe": refused("--base_folder data --recipe isi --deblur_path LDN.pth", "made for --spike_input counts"),
        "teacher": only_trained("--teacher sdm")
        + told("--lambda_tea 0 --teacher sdm", "with --lambda_tea 0")
        + refused("--base_folder data --recipe resim --teacher sdm", "which only resim can teach"),
        "spike_deblur_len": USED,
        "blur_step": only_trained("--blur_step 12") + refused(f"{RESIMULATED} --blur_step 12", SIMULATED),
        "lambda_tea": only_trained("--lambda_tea 2")
        + refused(f"{RESIMULATED} --lambda_tea 2", SIMULATED)
        + refused("--base_folder data --lambda_tea 0 --lambda_reblur 0", "nothing is left to learn"),
        "lambda_reblur": only_trained("--lambda_reblur 1") + refused(f"{RESIMULATED} --lambda_reblur 0", SIMULATED),
        "tea_loss": only_trained("--tea_loss ssim") + told("--lambda_tea 0 --tea_loss ssim", "with --lambda_tea 0"),
        "center_weight": refused("--center_weight 0.5", "not used without --bsn_path and --sr_path")
        + refused(f"{RESIMULATED} --recipe resim --bsn_path bsn.pth --sr_path sr.pth --center_weight 0.5", SIMULATED),
        "reblur": only_trained("--reblur trapezoid")
        + told("--lambda_reblur 0 --reblur trapezoid", "with --lambda_reblur 0")
        + refused(f"{RESIMULATED} --reblur trapezoid", SIMULATED)
        + refused("--base_folder data --reblur random", "the labels are at other times for every batch"),
        "consistency": USED,
        "clip": only_trained("--clip"),
        "lr_cycles": only_trained("--lr_cycles 2"),
        "warm_up": only_trained("--warm_up 0.1"),
        "use_ssim": only_trained("--use_ssim")
        + told("--lambda_tea 0 --use_ssim", "with --lambda_tea 0")
        + refused(f"{RESIMULATED} --use_ssim", SIMULATED),
        "init": only_trained("--init random")
        + refused("--deblur_path LDN.pth --init random", "not used with --deblur_path, from whose weights"),
        "teacher_cache": only_trained("--teacher_cache labels")
        + told("--lambda_tea 0 --teacher_cache labels", "with --lambda_tea 0")
        + refused(f"{TAUGHT} --reblur random --teacher_cache labels", "cannot be kept"),
    },
    "scripts.make_gopro": {
        **dict.fromkeys(("input", "factor", "interpolator", "noise", "seed", "workers", "film"), USED),
        "output": refused("frames --output frames/set", "lies among the raw data"),
        "weights": refused("frames --output set --weights raft.pth", "with --interpolator dis, only with raft"),
        "test_sequences": refused("frames --output set --test_sequences other", "no sequence named 'other'"),
        "threshold": refused("frames --output set --threshold 1 1", "one or several different values"),
        "white": refused(
            "frames --output set --white 4095", "--white 4095: not used, frames has no pictures of 16 bits"
        ),
        "noise_mean": refused("frames --output set --no-noise --noise_mean 9", "not used with --no-noise"),
        "noise_std": refused("frames --output set --no-noise --noise_std 9", "not used with --no-noise"),
        "spike_full": refused("frames --output set --film 50 --spike_full", "not used with --film"),
        "sequence": refused("frames --output set --film 50 --sequence", "not used with --film"),
        "exposure": refused("frames --output set --exposure 49", "not used without --film"),
        "truth_step": refused("frames --output set --truth_step 4", "not used without --film"),
        "spike_rate": refused("frames --output set --spike_rate 9", "not used without --film"),
        "shard": refused("frames --output set --shard 3/2", "--shard 3/2"),
        "device": told("frames --output set --device cpu", "with --interpolator dis, only with raft"),
    },
    "scripts.make_demo": {
        **dict.fromkeys(("output", "train", "test", "size", "threshold", "noise", "seed"), USED),
        "sequence": told("--train 0 --sequence", "with --train 0"),
        "variety": told("--train 0 --variety", "with --train 0"),
    },
    "scripts.make_rig": {
        **dict.fromkeys(
            ("input", "output", "pictures", "vary", "severity", "ratio", "threshold", "noise", "seed"), USED
        ),
        "pairs": refused("--pictures 3 --pairs 3", "not used beside --pictures"),
        "frames": refused("--frames 999", "not used without --pictures"),
        "size": refused("frames --size 512", "not used beside a video"),
        "factor": refused("--factor 24", "not used without a video"),
        "interpolator": refused("--interpolator none", "not used without a video"),
    },
    "scripts.calibrate": {
        **dict.fromkeys(("pictures", "stream", "rows", "bits", "force"), USED),
        "geometry": refused("data a.dat --geometry 120", "--geometry 120: height and width are accepted"),
        "ratio": refused("data a.dat --ratio 20", "--ratio 20.0: accepted is 0.8 to 10"),
        "flat": refused("data a.dat --flat none.dat", "--flat none.dat: no such spike file"),
        "out": refused("data a.dat --out rig", "--out rig: a name that ends with .json is accepted"),
    },
    "scripts.make_real": {
        **dict.fromkeys(("pictures", "stream", "output"), USED),
        "rig": refused("data a.dat --rig none.json --output set", "none.json: rig cannot be read"),
    },
    "scripts.quickstart": {"pretrained": USED},
    "scripts.resimulate": {
        "base_folder": refused("--base_folder data ./data --output set", "names a data set twice"),
        "data_type": refused("--base_folder real --output set", "give --data_type real"),
        "output": USED,
        "threshold": refused("--base_folder data --output set --threshold 1", "smallest and largest"),
        "seed": USED,
        "flow": refused("--base_folder data --output set --flow raft", "--raft_path is missing"),
        "raft_path": refused("--base_folder data --output set --raft_path LDN.pth", "--raft_path: not used with"),
        "device": refused("--base_folder data --output set --device nowhere", "--device nowhere"),
    },
    "scripts.tables": {
        **dict.fromkeys(("base_folder", "deblur_path", "output", "use_small", "device", "workers"), USED),
        "threshold": refused("--base_folder threshold_2 --threshold 4", "threshold_2 was made at V_th 2"),
        "bsn_path": refused("--base_folder data --bsn_path bsn.pth bsn.pth", "--bsn_path: one file, or one for each"),
        "sr_path": refused("--base_folder data --sr_path sr.pth sr.pth", "--sr_path: one file, or one for each"),
        "cost_size": refused("--cost_size 720", "--cost_size 720: height and width"),
    },
    "scripts.deblur_film": {
        **dict.fromkeys(("film", "spikes", "out", "method", "repair", "device", "missing"), USED),
        "rig": refused(f"{FILM} --rig missing.json", "missing.json: rig cannot be read"),
        "align": refused(f"{FILM} --rig rig.json --align crop", "--align: not used beside --rig"),
        "geometry": refused(f"{FILM} --rig rig.json --geometry 9 9", "--geometry: not used beside --rig"),
        "rows": refused(f"{FILM} --rig rig.json --rows top", "--rows: not used beside --rig"),
        "orientation": refused(f"{FILM} --rig rig.json --orientation mirrored", "--orientation: not used beside --rig"),
        "bits": refused(f"{FILM} --rig rig.json --bits highest", "--bits: not used beside --rig"),
        "clock": refused(f"{FILM} --clock 1 2", "first spike frame, period and length"),
        "spike_rate": refused(f"{FILM} --spike_rate 0", "--spike_rate 0"),
        "fps_out": refused(f"{FILM} --fps_out 30000", "at most the 20000 of --spike_rate"),
        "video": refused(f"{FILM} --video a.avi", "a.avi: a video ends with"),
        "slowmo": refused(f"{FILM} --slowmo 10", "without --video or --page"),
        "page": refused(f"{FILM} --page a.htm", "a name that ends with .html"),
        "slice": refused(f"{FILM} --slice a.gif", "a name that ends with .png"),
        "gamma": refused(f"{FILM} --gamma 99", "--gamma 99"),
        "deblur_path": refused(f"{FILM} --method tfp --deblur_path LDN.pth", "--deblur_path: not used by"),
        "tile": refused(f"{FILM} --method tfp --tile 64", "--tile: not used by"),
        "precision": refused(f"{FILM} --method tfp --precision bf16", "--precision: not used by")
        + told(f"{FILM} --device cpu --precision tf32", "on a CPU, which has no TF32"),
        "force": refused(f"{FILM} --force --missing", "--force: not used beside --missing"),
    },
    "scripts.export": {
        "weights": USED,
        "out": USED,
        "formats": USED,
        "spike_deblur_len": refused("LDN.pth --spike_deblur_len 9", "--spike_deblur_len 21"),
        "force": USED,
    },
    "scripts.figures": {
        "run": refused("empty", "no step-*/means.csv found"),
        "output": USED,
        "samples": refused("sr --samples -1", "--samples -1"),
        "width": refused("sr --width 99", "--width 99: no grid is drawn"),
        "better_by": refused("sr --better_by 2", "--better_by is for runs of train_deblur.py"),
    },
    "scripts.inspect_spikes": {
        "files": USED,
        "picture": refused("a.dat a.dat --picture a.png", "--picture a.png: belongs to one file"),
        "time": USED,
        "output": USED,
    },
    "scripts.dev.kill_test": {
        "kills": refused("--kills 0", "--kills 0: at least 1"),
        "stages": USED,
        "seed": USED,
        "output": refused("--output LDN.pth", "LDN.pth: exists already"),
        "force": USED,
    },
    "scripts.dev.measure_colour": {
        **dict.fromkeys(("base_folder", "method"), USED),
        "every": refused("data --every 0", "--every 0"),
        "deblur_path": refused("data --method mfsr --deblur_path LDN.pth", "not used by --method mfsr"),
    },
    "scripts.dev.soak": {
        "pid": refused("999999999 LDN.pth", "999999999: no such process"),
        "log": refused("PID missing.log", "missing.log: no such file"),
        "output": refused("PID LDN.pth --output soaked", "soaked/soak.csv: exists already"),
        "every": refused("PID LDN.pth --every 0", "--every 0: seconds above 0"),
    },
    "scripts.dev.ablations.closed_form": dict.fromkeys(("base_folder", "output"), USED),
    "scripts.dev.ablations.film": {
        "film": refused("frames a", "frames/film.json: cannot be read"),
        "frames": USED,
        "output": USED,
    },
    "scripts.dev.ablations.real": {"streams": refused("", "--streams is missing"), "output": USED},
    "scripts.dev.ablations.denoise": {
        "base_folder": USED,
        "bsn_path": refused("", "--bsn_path is missing"),
        "output": USED,
    },
    "scripts.dev.ablations.train": {
        **dict.fromkeys(("base_folder", "test_folder", "steps", "bs", "roi_size", "device", "output"), USED),
        "resimulated": refused("--only isi,\\ teacher\\ sdm --resimulated set", "--resimulated: none of the rows"),
        "bsn_path": refused("--only recipe --resimulated set --bsn_path bsn.pth", "--bsn_path: none of the rows"),
        "sr_path": refused("--only recipe --resimulated set --sr_path sr.pth", "--sr_path: none of the rows"),
        "seeds": refused("--seeds 0", "--seeds 0: 1 or more"),
        "only": refused("--only nothing", "--only nothing: no row begins so"),
    },
    "scripts.dev.draw_examples": {
        **dict.fromkeys(("figure", "pictures", "output", "deblur_path"), USED),
        "published_path": refused("deblur a.png --published_path p.pth", "--published_path: not used by deblur"),
        "side": refused("deblur a.png --side 0", "--side 0"),
    },
    "scripts.dev.registration": {
        "folder": refused("missing", "missing: no truth"),
        "pairs": refused("missing --pairs -1", "--pairs -1"),
        "restore": USED,
        "deblur_path": refused("missing --restore sdm --deblur_path LDN.pth", "without --restore ldn"),
    },
    "scripts.dev.draw_overview": dict.fromkeys(("sample", "output", "deblur_path"), USED),
    "scripts.dev.benchmarks.data": {
        "frames": USED,
        "count": refused("frames --count 9", "--count 9 needs more"),
        "workers": USED,
        "repeats": USED,
        "interpolator": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.interpolation": dict.fromkeys(("folder", "frames", "weights", "json"), USED),
    "scripts.dev.benchmarks.metrics": {
        "base_folder": USED,
        "size": refused("--base_folder data --size 32 32", "--size is for the synthetic sample"),
        "repeats": USED,
        "threads": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.load": {
        "base_folder": USED,
        "size": refused("--base_folder data --size 32 32", "--size is for synthetic pictures"),
        "samples": refused("--base_folder data --samples 99", "--samples 99: data has 3"),
        "roi_size": USED,
        "repeats": USED,
        "device": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.train": {
        "base_folder": USED,
        "stages": USED,
        "roi_size": refused("--base_folder data --roi_size 512", "--roi_size 512: data has pictures of 32x64"),
        "bs": USED,
        "steps": refused("--base_folder data --roi_size 32 --steps 9", "--steps 9: at least 20"),
        "repeats": USED,
        "tea_loss": refused(
            "--base_folder data --roi_size 32 --stages BSN --tea_loss lpips",
            "--tea_loss lpips: no stage with a teacher",
        ),
        "precision": USED,
        "compile": USED,
        "cache": USED,
        "workers": refused("--base_folder data --roi_size 32 --cache ram --workers 3", "--workers 3: with --cache ram"),
        "device": USED,
        "json": USED,
    },
    "scripts.dev.benchmarks.eval": dict.fromkeys(("size", "repeats", "device", "json"), USED),
    "scripts.dev.benchmarks.infer": {
        **dict.fromkeys(("size", "times", "compile", "repeats", "device", "json"), USED),
        "precision": told("--device cpu --precision tf32", "on a CPU, which has no TF32"),
    },
    "scripts.dev.benchmarks.recipes": dict.fromkeys(("size", "roi_size", "bs", "repeats", "device", "json"), USED),
    "scripts.dev.benchmarks.growth": {
        **dict.fromkeys(("picture", "sides", "batches", "samples", "size", "repeats", "device", "json"), USED),
        "precision": told("growth.svg --device cpu --precision tf32", "on a CPU, which has no TF32"),
    },
    "scripts.check_gpu": {
        "device": USED,
        "output": refused("--output LDN.pth", "LDN.pth: exists already"),
        "short": USED,
        "minutes": refused("--minutes 0", "--minutes 0: has to be above 0"),
        "checks": USED,
    },
}
CASES = [(program, flag, *case) for program, flags in FLAGS.items() for flag, cases in flags.items() for case in cases]
REFUSED, TOLD = ([case for case in CASES if case[2] == kind] for kind in ("refused", "told"))


def names(cases: list[tuple[str, ...]]) -> list[str]:
    return [f"{program}-{flag}" for program, flag, *_ in cases]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A folder with weights, data sets, a stream, frames, and runs without pictures and without results."""
    root = tmp_path_factory.mktemp("flags")
    make_data(root / "data")
    for name, net in (("bsn", BSN()), ("sr", EDSR()), ("LDN", LDN())):
        torch.save(net.state_dict(), root / f"{name}.pth")
    for name in ("empty", "soaked", "threshold_2", "resimulated"):
        (root / name).mkdir()
    for name in ("real", "resimulated/train"):
        (root / name).symlink_to(root / "data/train")
    (root / "resimulated/resimulated.json").write_text("{}")
    (root / "soaked/soak.csv").write_text("")
    write_spikes(root / "a.dat", np.zeros((137, 8, 16), np.uint8))
    for name in ("a.png", "frames/000000.png"):
        write_image(root / name, np.zeros((32, 64, 3), np.uint8))
    journal = Journal(root / "sr")
    journal.table(5, {"SR": {"psnr": 20.0, "ssim": 0.5}}, [{"sample": "a", "output": "SR", "psnr": 20.0, "ssim": 0.5}])
    journal.close()
    return root


def test_every_program_is_accounted_for():
    """Those of deblur.py are listed by method in its own test."""
    sources = [*ROOT.glob("train_*.py"), *ROOT.glob("scripts/*.py"), *ROOT.glob("scripts/dev/**/*.py")]
    programs = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sources
        if re.search("(class|import) Options", path.read_text(encoding="utf-8"))
    }
    assert programs - {"scripts.deblur"} == FLAGS.keys()


@pytest.mark.parametrize("program", FLAGS)
def test_every_flag_is_accounted_for(program):
    fields = dataclasses.fields(import_module(program).Options)
    assert {field.name for field in fields} == FLAGS[program].keys()
    ruled = {(field.name, rule) for field, rule in product(fields, ("unused", "idle")) if field.metadata[rule]}
    kinds = {"unused": "refused", "idle": "told"}
    assert all(kinds[rule] in {kind for kind, *_ in FLAGS[program][name]} for name, rule in ruled)


@pytest.mark.parametrize(("program", "flag", "kind", "words", "message"), REFUSED, ids=names(REFUSED))
def test_a_flag_that_cannot_be_used_is_refused_before_anything_is_written(
    program, flag, kind, words, message, folder, monkeypatch
):
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    module = import_module(program)
    with pytest.raises(InputError) as error:
        module.main(parse(module.Options, "", shlex.split(words.replace("PID", str(os.getpid())))))
    assert message in str(error.value)
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("program", "flag", "kind", "words", "why"), TOLD, ids=names(TOLD))
def test_a_flag_that_changes_nothing_is_named_in_one_line(program, flag, kind, words, why, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    parse(import_module(program).Options, "", words.split())
    assert f"--{flag} has no effect {why}" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(
    ("words", "recipe", "line"),
    [
        ("--bsn_path bsn.pth --sr_path sr.pth --evaluate_every 0", ISI, "--bsn_path and --sr_path have no effect"),
        ("--teacher_cache labels", ISI | {"teacher": "resim"}, "--teacher_cache has no effect"),
    ],
)
def test_what_a_recipe_has_no_use_for_is_named(words, recipe, line):
    """The recipe may be that of a weight file, which is not part of the command line."""
    o = parse(train_deblur.Options, "", words.split())
    assert [told.partition(":")[0] for told in without_use(o, recipe)] == [line]
    assert not without_use(dataclasses.replace(o, test_mode=True), recipe)
    assert not without_use(o, PUBLISHED)


def test_published_commands_carry_flags_without_effect(monkeypatch, capsys):
    words = "--test_mode --bsn_path model/BSN_1000.pth --data_type GOPRO --bs 8 --epochs 1001 --lr 3e-4"
    parse(train_bsn.Options, "", words.split())
    assert capsys.readouterr().err == "--bs has no effect with --test_mode\n"  # the others are at their defaults
    monkeypatch.setenv("RANK", "1")
    parse(train_bsn.Options, "", words.split())
    assert not capsys.readouterr().err  # of several processes the first says it


def documented() -> list[str]:
    """Return the commands of the documentation, each as one line."""
    pages = ("README.md", "scripts/README.md", "scripts/GOPRO_dataset.md", "model/README.md")
    text = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages).replace("\\\n", " ")
    lines = (line.partition("#")[0].split() for line in text.splitlines() if line.startswith("python "))
    return [" ".join(words[1:]) for words in lines if "..." not in words]


@pytest.mark.parametrize("command", documented())
def test_the_documented_commands_have_no_flag_without_use(command, capsys):
    script, *words = command.split()
    module = import_module(script.removesuffix(".py").replace("/", "."))
    if "dev" not in script:  # of which the first word names the part
        parse(module.Options, "", words)
    assert not capsys.readouterr().err
