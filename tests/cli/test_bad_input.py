"""Whatever is wrong, a command says so in one line, exits with 2 and leaves no trace."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xray_captioning.cli import COMMANDS, main
from xray_captioning.config import load_preset

pytestmark = pytest.mark.usefixtures("eagerly")

# What is typed, with {box} for a folder of broken things, {phantoms} for sound data and {out}
# for a folder that does not exist, and words the one line must have.
CASES = [
    # the command itself
    ("translate", "No such command; 'translate'; --help"),
    ("--loud", "--loud; --help"),
    *[(f"{name} --loud", f"--loud; {name} --help") for name in COMMANDS],
    *[(f"{name} --seed -1", "--seed; -1") for name in COMMANDS],
    *[(f"{name} --seed x", "--seed; 'x'") for name in COMMANDS],
    ("demo --seed 4294967296", "--seed; 4294967296"),
    # phantom
    ("phantom", "--out"),
    ("phantom --out", "--out"),
    ("phantom --out {out} --studies 0", "--studies; 0"),
    ("phantom --out {out} --studies -3", "--studies; -3"),
    ("phantom --out {out} --size -3", "--size; -3"),
    ("phantom --out {out} --size large", "--size; 'large'"),
    ("phantom --out {out} surplus", "surplus"),
    ("phantom --out {box}/full", "full; empty"),
    ("phantom --out {box}/keep.txt", "--out; keep.txt"),
    # prepare
    ("prepare", "PATH"),
    ("prepare {box}/nowhere --out {out}", "nowhere; does not exist"),
    ("prepare {box}/empty --out {out}", "empty; indiana_reports.csv"),
    ("prepare {box}/keep.txt --out {out}", "keep.txt; lacks a column for image; found: mine"),
    ("prepare {box}/bad_quotes --out {out}", "captions.csv; line 2; quotes"),
    ("prepare {box}/few_columns --out {out}", "captions.csv; lacks a column for caption; --columns"),
    (
        "prepare {box}/few_columns --out {out} --columns caption=note",
        "captions.csv; no column 'note' for caption; found: image, words",
    ),
    ("prepare {box}/few_columns --out {out} --columns text=words", "'text' is no role; caption"),
    ("prepare {box}/few_columns --out {out} --columns words", "--columns; ROLE=NAME"),
    ("prepare {box}/few_columns --out {out} --columns image=a,image=b", "--columns image=a,image=b; a role twice"),
    ("prepare {box}/no_rows --out {out}", "no_rows; no studies"),
    ("prepare {box}/latin --out {out}", "captions.csv; UTF-8"),
    ("prepare {box}/bad_json/annotation.json --out {out}", "annotation.json; line 1; JSON"),
    ("prepare {box}/other_json --out {out}", "annotation.json; entry; images; write one"),
    ("prepare {box}/bad_xml --out {out}", "1.xml; XML"),
    ("prepare {box}/other_xml --out {out}", "1.xml; no Open-i report"),
    ("prepare {box}/cut.tgz --out {out}", "cut.tgz; again"),
    ("prepare {box}/labels --out {out}", "Data_Entry.csv; Patient ID"),
    ("prepare {phantoms} --images {box}/nowhere --out {out}", "--images; nowhere"),
    ("prepare {phantoms} --images {box}/keep.txt --out {out}", "keep.txt; folder"),
    ("prepare {phantoms} --out {box}/keep.txt", "--out; keep.txt"),
    # train-encoder and train, before anything is read
    *[
        (f"{command} {options}", words)
        for command in ("train-encoder", "train")
        for options, words in [
            ("--data {phantoms}", "--out"),
            ("--out {out}", "--data"),
            ("--data {box}/nowhere --out {out}", "--data; nowhere; does not exist"),
            ("--data {box}/empty --out {out}", "empty; indiana_reports.csv"),
            ("--data {box}/bad_quotes --out {out}", "captions.csv; line 2"),
            ("--data {phantoms} --out {box}/full", "full; not empty; --out"),
            ("--data {phantoms} --out {box}/full --resume", "full; not empty; --out"),
            ("--data {phantoms} --out {box}/run", "run; --resume"),
            ("--data {phantoms} --out {box}/run --resume", "run; training.patience 7; --out"),
            ("--data {phantoms} --out {box}/bad_run --resume", "run.json; damaged; --out"),
            ("--data {phantoms} --out {box}/keep.txt", "--out; keep.txt"),
            ("--data {phantoms} --out {out} --preset best", "'best'; phantom_attention"),
            ("--data {phantoms} --out {out} --set training.speed=3", "speed; epochs"),
            ("--data {phantoms} --out {out} --set speed=3", "speed; training.epochs"),
            ("--data {phantoms} --out {out} --set epochs", "'epochs'; training.epochs=3"),
            ("--data {phantoms} --out {out} --set training.epochs=many", "training.epochs; int"),
            ("--data {phantoms} --out {out} --set training.epochs=2.5", "training.epochs; 2.5"),
            ("--data {phantoms} --out {out} --set training.epochs=-1", "training.epochs; -1; >= 1"),
            ("--data {phantoms} --out {out} --set image.size=0", "image.size; 0; >= 16"),
            ("--data {phantoms} --out {out} --set image.resize=cubic", "image.resize; nearest"),
            ("--data {phantoms} --out {out} --set model=[1]", "model; object"),
            ("--data {phantoms} --out {out} --set model.dropout=NaN", "model.dropout; nan"),
            ("--data {phantoms} --out {out} --set fractions=[1,1,1]", "fractions; sum to 1"),
            ("--data {phantoms} --out {out} --split {box}/nowhere.json", "--split; nowhere.json"),
            ("--data {phantoms} --out {out} --split {box}/keep.txt", "keep.txt; JSON; split"),
            ("--data {phantoms} --out {out} --split {box}/edited.json", "edited.json; altered"),
            ("--data {phantoms} --out {out} --split {box}/strange.json", "'7'; not in the data"),
            ("--data {phantoms} --out {out} --images {box}/nowhere", "--images; nowhere"),
            ("--data {phantoms} --out {out} --cache {box}/keep.txt", "--cache; keep.txt"),
        ]
    ],
    ("train-encoder --data {phantoms} --out {out} --weights {box}/nowhere", "nowhere; train"),
    (
        "train-encoder --data {phantoms} --out {out} --set training.epochs=1",
        "training.; changes nothing here; encoder_training",
    ),
    ("train-encoder --data {phantoms} --out {out} --weights {box}/empty", "manifest.json; missing"),
    ("train --data {phantoms} --out {out} --encoder {box}/nowhere", "nowhere; train"),
    ("train --data {phantoms} --out {out} --encoder {box}/empty", "manifest.json; missing"),
    ("train --data {box}/no_images --out {out}", "both an image; impression"),
    ("train --data {box}/labels_only --out {out}", "both an image; impression"),
    # evaluate
    ("evaluate --out {out}", "--data"),
    ("evaluate --data {phantoms}", "--out"),
    ("evaluate --data {phantoms} --out {box}/keep.txt", "--out; keep.txt"),
    ("evaluate --data {phantoms} --out {out} --bundle {box}/nowhere", "nowhere; no such bundle"),
    ("evaluate --data {phantoms} --out {out} --bundle {box}/empty", "manifest.json; missing"),
    ("evaluate --data {phantoms} --out {out} --part all", "--part; 'train', 'val', 'test'"),
    ("evaluate --data {phantoms} --out {out} --beam 0", "--beam; 0"),
    ("evaluate --data {phantoms} --out {out} --captions {box}/nowhere.csv", "nowhere.csv"),
    ("evaluate --data {phantoms} --out {out} --systems a={box}/nowhere", "nowhere; no such bundle"),
    ("evaluate --data {phantoms} --out {out} --figures gif", "--figures; 'png', 'pdf', 'svg'"),
    *[
        (f"evaluate --data {{phantoms}} --out {{out}} --captions {{box}}/systems/{name}.csv", words)
        for name, words in [
            ("no_id", "no_id.csv; names the study; study_id"),
            ("no_system", "no_system.csv; no column is what the system wrote; --prediction"),
            ("no_rows", "no_rows.csv; no row"),
            ("twice", "twice.csv; 900001; twice"),
            ("latin", "latin.csv; UTF-8"),
            ("quotes", "quotes.csv; line 2; quotes"),
            ("surplus", "surplus.csv; line 2; quotes"),
            ("constant", "constant; rename"),
        ]
    ],
    (
        "evaluate --data {phantoms} --out {out} --captions {box}/systems/sound.csv --set text.section=history",
        "text.section; impression",
    ),
    ("evaluate --data {box}/labels_only --out {out} --captions {box}/systems/sound.csv", "section"),
    # score
    ("score", "--references"),
    ("score --references {box}/two.txt", "--hypotheses"),
    ("score --references {box}/two.txt --hypotheses {box}/nowhere.txt", "nowhere.txt"),
    ("score --references {box}/two.txt --hypotheses {box}/empty", "empty; no row"),
    ("score --references {box}/two.txt --hypotheses {box}/three.txt", "three.txt; 3 texts; but 2"),
    ("score --references {box}/latin.txt --hypotheses {box}/two.txt", "latin.txt; UTF-8"),
    ("score --references {box}/nothing.txt --hypotheses {box}/nothing.txt", "nothing.txt; empty"),
    # caption
    ("caption", "IMAGE"),
    ("caption {box}/sound.png --bundle {box}/nowhere", "nowhere; no such bundle"),
    ("caption {box}/sound.png --bundle {box}/empty", "manifest.json; missing"),
    ("caption {box}/sound.png --beam 0", "--beam; 0"),
    ("explain {box}/sound.png", "--out"),
    ("explain {box}/sound.png --out {out}/x.gif", "x.gif; .png, .pdf, .svg"),
    ("explain {box}/nowhere.png --out {out}/x.png", "nowhere.png; no such image"),
    ("explain {box}/sound.png --out {out}/x.png --bundle {box}/nowhere", "nowhere; no such bundle"),
    ("explain {box}/sound.png --out {out}/x.png --views a,b", "--views; 2 images"),
    ("cite {box}/nowhere", "nowhere; no bundle, data, encoder or collection; mimic_cxr"),
    ("cite {box}/empty", "empty; no known source"),
    ("caption {box}/sound.png --columns image=file", "--columns; give --data, too"),
    # demo
    ("demo --out {box}/full", "full; not empty; --out"),
    ("demo --out {box}/keep.txt", "--out; keep.txt"),
    ("demo --studies 3", "--studies"),
]

# The same with a model: {bundles} holds damaged copies of a sound bundle, {model}.
MODEL_CASES = [
    *[
        (f"{command} --bundle {{bundles}}/{bundle}", words)
        for command in ("caption {box}/sound.png", "evaluate --data {phantoms} --out {out}")
        for bundle, words in [
            ("unfinished", "manifest.json; missing; --resume"),
            ("no_tokenizer", "tokenizer.json; missing; copy"),
            ("altered_tokenizer", "tokenizer.json; altered; copy"),
            ("altered_weights", "decoder.weights.h5; altered; copy"),
            ("altered_config", "captioner.json; altered; copy"),
            ("altered_card", "README.md; altered; copy"),
            ("bad_manifest", "manifest.json; not JSON"),
            ("empty_manifest", "manifest.json; does not name"),
            ("newer", "format 99; install"),
            ("encoder", "encoder; encoder only; train --encoder"),
        ]
    ],
    ("train-encoder --data {phantoms} --out {out} --weights {bundles}/altered_weights", "altered"),
    ("train --data {phantoms} --out {out} --encoder {bundles}/altered_weights", "altered; copy"),
    (
        "train --preset phantom_attention --data {phantoms} --out {out} --encoder {bundles}/encoder",
        "image.size; 64; --set image.size=64",
    ),
    ("caption {box}/nowhere.png --bundle {model}", "nowhere.png; no such image"),
    ("caption {box}/empty --bundle {model}", "empty; holds no; image"),
    ("caption {box}/text.png --bundle {model}", "text.png; none of PNG"),
    ("caption {box}/cut.png --bundle {model}", "cut.png; truncated"),
    ("caption {box}/nothing.png --bundle {model}", "nothing.png; empty"),
    ("caption {box}/sound.png {box}/cut.png --bundle {model}", "cut.png; truncated"),
    ("caption {box}/sound.png,{box}/cut.png --bundle {model}", "cut.png; truncated"),
    ("caption {box}/sound.png,{box}/nowhere.png --bundle {model}", "nowhere.png; no such"),
    ("caption {box}/sound.png, --bundle {model}", "sound.png,; no such image"),
    ("caption {box}/sound.png,{box}/sound.png,{box}/sound.png --bundle {model}", "3 images; looks at 2; choose"),
    (
        "evaluate --data {phantoms} --out {out} --bundle {model} --bundle {model}",
        "two systems are called captioner; write NAME=BUNDLE",
    ),
    (
        "evaluate --data {phantoms} --out {out} --bundle {model} --captions {box}/systems/few.csv",
        "few; no id; few.csv; 900099; study_id",
    ),
    ("evaluate --data {phantoms} --out {out} --captions {box}/systems/few.csv", "few; no id"),
    (
        "evaluate --data {phantoms} --out {out} --bundle {model} --set text.section=findings",
        "captioner; impression; findings",
    ),
    (
        "evaluate --data {phantoms} --out {out} --bundle {model} --split {box}/swapped.json",
        "captioner; was trained on; --split",
    ),
    ("evaluate --data {box}/no_images --out {out} --bundle {model}", "image on disk"),
]

# Mistakes in the data that show after a run has taken its folder.
LATE_CASES = [
    ("train-encoder --weights random --data {box}/cut_image", "cut.png; truncated"),
    ("train --encoder {bundles}/encoder --data {box}/cut_image", "cut.png; truncated"),
    ("train-encoder --weights random --data {phantoms} --set model.encoder=vgg", "vgg; phantom_cnn"),
    ("train-encoder --weights random --data {phantoms} --set model.pool=9", "model.pool; smaller"),
    ("train-encoder --weights random --data {box}/no_images", "image on disk"),
    ("train-encoder --weights random --data {box}/no_findings", "finding to learn"),
    # before an encoder is downloaded, or warned of
    ("train --data {phantoms} --set model.decoder=rnn", "rnn; global"),
    ("train --data {phantoms} --set model.decoder=gpt2 --set model.heads=7", "model.units; heads"),
    ("train --encoder {bundles}/encoder --data {phantoms} --split {box}/no_train.json", "training part; empty"),
    (
        "train --encoder {bundles}/encoder --data {phantoms} --split {box}/leak.json",
        "was trained on; test studies; --split",
    ),
    ("train-encoder --weights random --data {phantoms} --split {box}/no_train.json", "training part; empty"),
]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, phantoms: Path) -> Path:
    """Folder of broken things, and a few sound ones."""
    box = tmp_path_factory.mktemp("box")
    files = {
        "keep.txt": b"mine",
        "full/keep.txt": b"mine",
        "run/run.json": json.dumps({"config": _other_config()}).encode(),
        "bad_run/run.json": b'{"config": ',
        "bad_quotes/captions.csv": b'image,caption\na.png,"no" effusion"\n',
        "few_columns/captions.csv": b"image,words\na.png,no effusion\n",
        "no_rows/captions.csv": b"image,caption\n",
        "latin/captions.csv": "image,caption\na.png,caf\xe9\n".encode("latin-1"),
        "bad_json/annotation.json": b'{"train": [',
        "other_json/annotation.json": b'{"images": []}',
        "bad_xml/1.xml": b"<eCitation><uId>",
        "other_xml/1.xml": b"<note>milk</note>",
        "cut.tgz": b"\x1f\x8b\x08\x00cut",
        "labels/Data_Entry.csv": b"Image Index,Finding Labels\na.png,Nodule\n",
        "labels_only/Data_Entry.csv": b"Image Index,Finding Labels,Patient ID\na.png,Nodule,1\n",
        "two.txt": b"no effusion .\nclear lungs .\n",
        "three.txt": b"no effusion .\nclear lungs .\nnormal .\n",
        "latin.txt": "caf\xe9\n\n".encode("latin-1"),
        "nothing.txt": b"",
        "text.png": b"not an image at all",
        "nothing.png": b"",
        "systems/no_id.csv": b"patient,mine\n900001,small text\n",
        "systems/no_system.csv": b"study_id,reference\n900001,text\n",
        "systems/no_rows.csv": b"study_id,mine\n",
        "systems/twice.csv": b"study_id,mine\n900001,text\n900001,other\n",
        "systems/latin.csv": "study_id,mine\n900001,caf\xe9\n".encode("latin-1"),
        "systems/quotes.csv": b'study_id,mine\n900001,"no" text"\n',
        "systems/surplus.csv": b"study_id,mine\n900001,no, text\n",
        "systems/constant.csv": b"study_id,constant\n900001,text\n",
        "systems/sound.csv": b"study_id,mine\n900001,text\n",
        "systems/few.csv": b"study_id,few\n900099,text\n",
        "cut_image/captions.csv": b"image,caption\n"
        + b"".join(b"%d.png,small left effusion\n" % i for i in range(8))
        + b"cut.png,small left effusion\n",
        "no_findings/captions.csv": b"image,caption\n0.png,good morning\n",
    }
    for name, content in files.items():
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        (box / name).write_bytes(content)
    (box / "empty").mkdir()
    _images(box, sorted(phantoms.glob("images/*/*1001.dcm.png"))[0])
    _tables(box, phantoms)
    _splits(box)
    return box


def _other_config() -> dict[str, object]:
    return load_preset("chexnet_attention").replace({"training.patience": 7}).to_dict()


def _images(box: Path, sound: Path) -> None:
    for name in ("sound", *(f"cut_image/images/{i}" for i in range(8)), "no_findings/images/0"):
        (box / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sound, box / f"{name}.png")
    for name in ("cut.png", "cut_image/images/cut.png"):
        (box / name).write_bytes(sound.read_bytes()[:-200])


def _tables(box: Path, phantoms: Path) -> None:
    (box / "no_images").mkdir()
    for path in phantoms.glob("*.csv"):
        shutil.copy(path, box / "no_images")


def _splits(box: Path) -> None:
    from xray_captioning.data.splits import Split

    ids = [str(900001 + i) for i in range(24)]
    Split(("900001",), ("7",), ()).to_json(box / "strange.json")
    Split((), tuple(ids), ()).to_json(box / "no_train.json")
    Split(tuple(ids[:4]), (), tuple(ids[4:])).to_json(box / "leak.json")
    Split((), (), tuple(ids)).to_json(box / "swapped.json")
    content = {"train": ["900001"], "val": [], "test": [], "digest": "0"}
    (box / "edited.json").write_text(json.dumps(content), "utf-8")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, tiny_run: Path, tiny_encoder_run: Path) -> Path:
    """Folder of damaged copies of a bundle, and of an encoder's."""
    folder = tmp_path_factory.mktemp("bundles")
    shutil.copytree(tiny_encoder_run, folder / "encoder")
    names = ["no_tokenizer", "bad_manifest", "empty_manifest", "newer", "unfinished"]
    altered = {
        "altered_tokenizer": "tokenizer.json",
        "altered_weights": "decoder.weights.h5",
        "altered_config": "captioner.json",
        "altered_card": "README.md",
    }
    for name in (*names, *altered):
        shutil.copytree(tiny_run, folder / name)
    for name, file in altered.items():
        _flip_a_byte(folder / name / file)
    (folder / "no_tokenizer" / "tokenizer.json").unlink()
    (folder / "bad_manifest" / "manifest.json").write_text("{", "utf-8")
    (folder / "empty_manifest" / "manifest.json").write_text("{}", "utf-8")
    (folder / "unfinished" / "manifest.json").unlink()
    _reformat(folder / "newer")
    return folder


def _flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _reformat(bundle: Path) -> None:
    from xray_captioning.bundles.bundle import write_bundle

    values = json.loads((bundle / "captioner.json").read_text("utf-8"))
    content = json.dumps({**values, "format": 99})
    write_bundle(bundle, lambda aside: (aside / "captioner.json").write_text(content, "utf-8"))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything below a folder, with what changes when it is written to."""
    found = {str(path): path.stat() for path in folder.rglob("*")}
    return {name: (status.st_size, status.st_mtime_ns) for name, status in found.items()}


def check_refusal(status: int, error: str, words: str, out: Path) -> None:
    """Check the exit status, the one line and that there is no result."""
    assert status == 2, error
    assert error.count("\n") == 1, error
    assert error.startswith("xray-captioning: ")
    assert error.endswith("\n")
    for word in words.split("; "):
        assert word in error
    assert re.search("; |: choose|line [0-9]", error), f"does not say what to do: {error}"
    assert not out.exists()


def typed(line: str, **places: Path) -> list[str]:
    """Split a line into arguments and put the places in, which may hold spaces."""
    return [word.format(**places) for word in line.split()]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What a command wrongly writes to the current folder, or to the cache, is seen.
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def check_refusals(cases: list[tuple[str, str]], places: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    """Check each command's refusal, and that none of the places has changed."""
    out = places["out"]
    before = {name: snapshot(place) for name, place in places.items() if place != out}
    for line, words in cases:
        capfd.readouterr()  # the fixtures' own
        status = main(typed(line, **places))
        output, error = capfd.readouterr()
        check_refusal(status, error, words, out)
        assert "\t" not in output, "a caption was printed before the error"
        assert not any(Path.cwd().iterdir()), line
    assert {name: snapshot(place) for name, place in places.items() if place != out} == before


@pytest.mark.parametrize("command", sorted({line.split(" ")[0] for line, _ in CASES}))
def test_refusals(command: str, box: Path, phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cases = [case for case in CASES if case[0].split(" ")[0] == command]
    check_refusals(cases, {"box": box, "phantoms": phantoms, "out": tmp_path / "out"}, capfd)


def test_refusals_with_a_model(
    box: Path, phantoms: Path, bundles: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"box": box, "phantoms": phantoms, "bundles": bundles, "model": tiny_run}
    check_refusals(MODEL_CASES, {**places, "out": tmp_path / "out"}, capfd)


@pytest.mark.parametrize("number", range(len(LATE_CASES)), ids=[line for line, _ in LATE_CASES])
def test_refused_training_leaves_nothing(
    number: int, box: Path, phantoms: Path, bundles: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (line, words), exists, out = LATE_CASES[number], number % 2 == 1, tmp_path / "out"
    if exists:
        out.mkdir()
    settings = " --preset phantom_attention --set image.size=64 --set fractions=[1,0,0]"
    line += f"{settings} --out {{out}} --cache {tmp_path}/cache"
    capfd.readouterr()
    status = main(typed(line, box=box, phantoms=phantoms, bundles=bundles, out=out))
    error = capfd.readouterr().err
    if exists:
        assert not any(out.iterdir())
        out.rmdir()
    check_refusal(status, error, words, out)


@pytest.mark.parametrize(
    ("line", "words"),
    [("phantom --out {box}/full", "full"), ("caption {box}/sound.png --bundle {box}/empty", "manifest.json")],
)
def test_refusal_of_the_program(line: str, words: str, box: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "xray_captioning", *typed(line, box=box)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    check_refusal(done.returncode, done.stderr, words, tmp_path / "out")
    assert done.stdout == ""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(box: Path, phantoms: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (box / "secret.txt").write_text("secret")
    (box / "locked").mkdir()
    for path in (box / "secret.txt", box / "locked"):
        path.chmod(0)
    try:
        for line, words in [
            ("phantom --out {box}/locked/out --studies 1", "locked"),
            ("prepare {phantoms} --out {box}/locked/out", "locked"),
            ("prepare {box}/locked", "locked"),
            ("score --references {box}/secret.txt --hypotheses {box}/two.txt", "secret"),
        ]:
            status = main(typed(line, box=box, phantoms=phantoms))
            check_refusal(status, capfd.readouterr().err, words, tmp_path / "out")
    finally:
        (box / "secret.txt").chmod(0o600)
        (box / "locked").chmod(0o700)
    assert not any((box / "locked").iterdir())
