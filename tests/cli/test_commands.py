"""What the commands answer when all is well, and when they are stopped."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from xray_captioning.cli import COMMANDS, main
from xray_captioning.cli.caption import source_studies
from xray_captioning.cli.options import Source
from xray_captioning.config import Config

pytestmark = pytest.mark.usefixtures("eagerly")

PROGRAM = [sys.executable, "-m", "xray_captioning"]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ([], *([name] for name in COMMANDS)):
        assert main([*command, "--help"]) == 0
        output, error = capsys.readouterr()
        assert output.startswith("Usage: xray-captioning")
        assert not error
        named = ["--seed"] if command else COMMANDS
        assert all(name in output for name in named), command


def test_many_studies_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run holds of a study's name and paths, of which there may be millions."""
    monkeypatch.setattr("xray_captioning.data.sources.reading.PART", 256)
    for number in range(5000):
        (tmp_path / f"study{number}.png").touch()

    def most(count: int) -> int:
        table = tmp_path / f"{count}.csv"
        rows = (f"{number},study{number}.png,Clear lungs.\n" for number in range(count))
        table.write_text("study_id,image,caption\n" + "".join(rows))
        tracemalloc.start()
        try:
            assert len(source_studies(Source(table), Config())) == count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    most(500)
    assert most(5000) - most(1000) < 4000 * 200  # bytes; a table of objects takes six times as many


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("xray-captioning, version ")


def test_phantom_then_prepare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "phantom", tmp_path / "prepared"
    assert main(["phantom", "--out", str(data), "--studies", "5", "--size", "64"]) == 0
    assert main(["prepare", str(data), "--out", str(out)]) == 0
    output, error = capsys.readouterr()
    assert "images missing                 0" in output
    assert not error
    assert json.loads((out / "summary.json").read_text("utf-8"))["studies"] == 5
    split = json.loads((out / "split.json").read_text("utf-8"))
    assert sum(len(split[part]) for part in ("train", "val", "test")) == 5
    assert split["digest"][:16] in output


def test_columns_of_a_table_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.csv").write_text("file;note;pid;split\na.png;Clear.;7;?\nb.png;Clear.;7;?\n")
    columns = "image=file,caption=note,patient=pid,split="
    assert main(["prepare", str(tmp_path / "notes.csv"), "--columns", columns]) == 0
    assert "patients                       1" in capsys.readouterr().out


def test_missing_images_are_counted(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in phantoms.glob("*.csv"):
        shutil.copy(path, tmp_path)
    assert main(["prepare", str(tmp_path)]) == 0
    output = capsys.readouterr().out
    assert "images present                 0" in output
    assert "missing, for example" in output


def test_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = "no effusion . the lungs are clear .\nsmall\x0cleft effusion is seen .\n"
    (tmp_path / "references.txt").write_text("\ufeff" + lines, "utf-8")
    (tmp_path / "hypotheses.txt").write_text(lines, "utf-8", newline="\r\n")
    files = [f"--{name}={tmp_path}/{name}.txt" for name in ("references", "hypotheses")]
    assert main(["score", *files]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["protocol", "BLEU-1"]
    for row, protocol in zip(rows, ("coco", "nltk", "legacy")):
        assert row.split()[:5] == [protocol, "1.000", "1.000", "1.000", "1.000"]


def test_evaluate_texts_without_a_bundle(phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (phantoms / "indiana_reports.csv").open(encoding="utf-8", newline="") as file:
        texts = {row["uid"]: row["findings"] for row in csv.DictReader(file)}
    with (tmp_path / "systems.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("study_id", "copyist"), *texts.items()])
    line = ["evaluate", "--data", phantoms, "--captions", tmp_path / "systems.csv"]
    line += ["--set", "text.section=findings", "--set", "fractions=[0.5,0,0.5]"]
    assert main([str(word) for word in [*line, "--out", tmp_path / "out"]]) == 0
    rows = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))["rows"]
    assert [row["system"] for row in rows][:2] == ["copyist", "constant"]
    assert rows[0]["BLEU-4"] == pytest.approx(1)
    assert rows[0]["clinical_f1"] == pytest.approx(1)
    assert rows[0]["n"] == 17
    assert rows[1]["distinct"] == 1
    assert "copyist" in capsys.readouterr().out


def test_evaluate_a_bundle(phantoms: Path, tiny_run: Path, tiny_cache: Path, tmp_path: Path) -> None:
    places = ["--out", str(tmp_path / "out"), "--cache", str(tiny_cache)]
    line = ["evaluate", "--data", str(phantoms), "--bundle", str(tiny_run), *places]
    assert main([*line, "--beam", "1", "--beam", "1"]) == 0
    found = json.loads((tmp_path / "out" / "metrics.json").read_text("utf-8"))
    systems = [(row["system"], row["search"]) for row in found["rows"]]
    baselines = [("constant", None), ("random", None), ("retrieval", None)]
    assert systems[0] == ("captioner", "greedy")
    assert set(baselines) <= set(systems)
    assert ("captioner shuffled", "greedy") in systems
    assert (tmp_path / "out" / "panel.png").stat().st_size > 10_000
    with (tmp_path / "out" / "captions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    test = json.loads((tiny_run / "split.json").read_text("utf-8"))["test"]
    assert sorted(row["study_id"] for row in rows) == test
    assert {"reference", "captioner greedy", "constant"} <= set(rows[0])


def test_caption(phantoms: Path, tiny_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = phantoms / "images" / "images_normalized"
    views = [str(folder / f"900001_IM-0001-{view}001.dcm.png") for view in (1, 2)]
    comma = tmp_path / "left,right.png"  # a comma in a name is part of it
    shutil.copy(views[0], comma)
    capfd.readouterr()
    line = ["caption", ",".join(views), str(comma), str(folder), "--bundle", str(tiny_run)]
    assert main(line) == 0
    output, error = capfd.readouterr()
    names = [line.split("\t")[0] for line in output.splitlines()]
    assert names == [",".join(views), str(comma), *sorted(map(str, folder.iterdir()))]
    assert error.count("\n") == 1
    empty = sum(line.endswith("\t") for line in output.splitlines())  # it has hardly learned
    assert f"the model wrote nothing about {empty} of {len(names)} studies" in error


def test_a_finished_run_goes_on_to_the_same_bundle(
    phantoms: Path, tiny_run: Path, tiny_encoder_run: Path, tiny_cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "captioner"
    shutil.copytree(tiny_run, run)
    values = json.loads((run / "run.json").read_text("utf-8"))["config"]
    line = ["train", "--data", phantoms, "--out", run, "--resume", "--cache", tiny_cache]
    line += ["--preset", "phantom_attention", "--encoder", tiny_encoder_run]
    for name, value in values.items():
        line += ["--set", f"{name}={json.dumps(value)}"]
    assert main([str(word) for word in line]) == 0
    assert (run / "log.csv").read_text() == (tiny_run / "log.csv").read_text()
    for name in ("tokenizer.json", "split.json"):
        assert (run / name).read_bytes() == (tiny_run / name).read_bytes()


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import xray_captioning.cli as group

    def full(_: object) -> int:
        raise MemoryError

    monkeypatch.setattr(group, "_run", full)
    assert main(["demo"]) == 2
    assert capfd.readouterr().err == "xray-captioning: the memory is used up; take smaller batches or images\n"


def test_an_interrupt_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import xray_captioning.cli as group

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    needed = {
        "phantom": "--out x",
        "prepare": ".",
        "demo": "",
        "serve": "",
        "export": "--out x",
        "app": "",
        "calibrate": "--bundle x --data .",
        "caption": "x.png",
        "explain": "x.png --out x.png",
        "cite": "",
        "push": "x hf://user/name",
        "pull": "hf://user/name",
        "encode": "x.png --encoder phantom_cnn --out x.npz",
        **dict.fromkeys(("encoders", "decoders", "presets", "fields"), ""),
        "score": f"--references {__file__} --hypotheses {__file__}",
        "import-legacy": f"--weights {__file__} --out x",
        "fetch": "--list",
        "cache": "",
        "sweep": "--data . --out x --grid model.pool=1",
        "review": f"export --captions {__file__} --systems a b --out x",
    }
    lines = [f"{name} {needed.get(name, '--data . --out x')}" for name in COMMANDS]
    resumed = ("train ", "train-encoder ", "caption x.png --out")
    for line in [*lines, "caption x.png --out x.csv"]:
        command = group.cli.get_command(None, line.split()[0])
        monkeypatch.setattr(command, "invoke", interrupted)
        assert main(line.split()) == 130
        advice = "; go on with the same command and --resume" if line.startswith(resumed) else ""
        assert capfd.readouterr() == ("", f"xray-captioning: interrupted{advice}\n")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_control_c_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    line = ["phantom", "--out", str(out), "--studies", "100000", "--size", "64"]
    with subprocess.Popen(
        [*PROGRAM, *line],
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore the interrupt, and so would their children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        # Until it is at work itself: the pictures of even studies are those of other processes.
        while process.poll() is None and not any(tmp_path.rglob("900009_*.png")):
            pass
        try:
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=5)[1]
        except subprocess.TimeoutExpired:
            # Python drops an interrupt that meets a finaliser; people press the keys again.
            process.send_signal(signal.SIGINT)
            error = process.communicate(timeout=20)[1]
        finally:
            process.kill()
    assert process.returncode == 130
    assert error == "xray-captioning: interrupted\n"
    assert not any(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of another kind")
def test_a_closed_pipe_is_no_error() -> None:
    with subprocess.Popen([*PROGRAM, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


def test_warnings_of_the_package_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import warnings

    import xray_captioning.phantom.dataset as phantom

    def write(*_: object, **__: object) -> None:
        warnings.warn_explicit("first\nsecond", UserWarning, "x.py", 1, "xray_captioning.data")
        warnings.warn_explicit("noise", UserWarning, "y.py", 1, "elsewhere")

    monkeypatch.setattr(phantom, "write_phantoms", write)
    assert main(["phantom", "--out", str(tmp_path / "out")]) == 0
    assert capfd.readouterr().err == "xray-captioning: warning: first second\n"


def test_prepare_the_real_reports(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = shared_data / "iu" / "ecgen-radiology.tgz"
    assert main(["prepare", str(archive), "--out", str(tmp_path)]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["studies"] == 3955
    histogram = {"0": 104, "1": 446, "2": 3208, "3": 181, "4": 15, "5": 1}
    assert summary["images_a_study"] == histogram
    assert "3955" in capsys.readouterr().out


def test_prepare_the_real_tables(shared_data: Path, tmp_path: Path) -> None:
    for name in ("indiana_reports.csv", "indiana_projections.csv"):
        (tmp_path / "tables").mkdir(exist_ok=True)
        shutil.copy(shared_data / "iu" / name, tmp_path / "tables")
    images = shared_data / "iu" / "images"
    line = ["prepare", tmp_path / "tables", "--images", images, "--out", tmp_path / "out"]
    assert main([str(word) for word in line]) == 0
    summary = json.loads((tmp_path / "out" / "summary.json").read_text("utf-8"))
    assert (summary["studies"], summary["images_named"]) == (3851, 7466)
    assert summary["images_present"] == 11


def test_score_a_published_system(shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = json.loads((shared_data / "iu" / "r2gen_annotation.json").read_text("utf-8"))["test"]
    with (shared_data / "systems" / "cvt2distilgpt2_iu.csv").open(newline="") as file:
        _, *rows = csv.reader(file)
    texts = {row[0]: row[-1] for row in rows}
    pairs = [(" ".join(e["report"].lower().split()), texts.get(e["id"], "")) for e in entries]
    for name, column in zip(("references", "hypotheses"), zip(*pairs)):
        (tmp_path / name).write_text("\n".join(column) + "\n", "utf-8")
    files = [f"--{name}={tmp_path / name}" for name in ("references", "hypotheses")]
    assert main(["score", *files]) == 0
    coco = capsys.readouterr().out.splitlines()[2].split()
    assert coco[0] == "coco"
    assert 0.2 < float(coco[1]) < 0.6


def test_captions_of_noise_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is printed has no place for confidence or novelty: an empty caption and a warning."""
    image = tmp_path / "noise.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (112, 112), np.uint8))
    assert main(["caption", str(image), "--beam", "1"]) == 0
    output, error = capsys.readouterr()
    assert output == f"{image}\t\n"
    assert "the images of 1 of 1 studies are unlike those" in error


def test_an_empty_caption_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from xray_captioning.captioner.captioner import Captioner

    monkeypatch.setattr(Captioner, "_display", lambda self, text: "")
    image = tmp_path / "grey.png"
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, 255, (112, 112), np.uint8))
    for more in ([], ["--out", str(tmp_path / "captions.csv")]):
        line = ["caption", str(image), "--beam", "1", "--show-unfamiliar", *more]
        assert main(line) == 0
        assert "the model wrote nothing about 1 of 1 studies" in capsys.readouterr().err


def test_what_is_told_of_very_many_images_is_counted(monkeypatch, capsys):
    import xray_captioning.cli as cli
    from xray_captioning.data.levels import warn_together

    def run(_):
        for batch in range(5):
            warn_together((f"{batch}-{i}.dcm", "its window has no width") for i in range(10))
        return 0

    monkeypatch.setattr(cli, "_run", run)
    assert main([]) == 0
    lines = capsys.readouterr().err.splitlines()
    start = "xray-captioning: warning: "
    assert lines == [
        *[f"{start}{n}-0.dcm (and 9 more images): its window has no width" for n in range(3)],
        f"{start}20 more images: its window has no width",
    ]
