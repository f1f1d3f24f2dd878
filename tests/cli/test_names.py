"""A wrong name is told before any data are read, by every command."""

from pathlib import Path

import pytest

from xray_captioning.cli import COMMANDS, main

# By command, lines with a wrong name, and that name, which the one line has. {trap} is data that nobody can read.
FIT = "--data {trap} --out {out}"
LISTS = ("encoders", "decoders", "presets", "fields")
WRONG = {
    **{name: [("surplus", "surplus")] for name in LISTS},
    "app": [("--bundle nowhere", "nowhere"), ("--runtime onx", "onx")],
    "cache": [("--cache {trap} --empty nothing", "nothing")],
    "calibrate": [
        ("--data {trap} --bundle nowhere", "nowhere: no such bundle"),
        ("--data {trap} --bundle phantom_attention --part tst", "tst"),
    ],
    "caption": [
        ("{trap}/cut.png --bundle nowhere", "nowhere"),
        ("{trap}/cut.png --views front", "front"),
        ("{trap}/cut.png --runtime onx", "onx"),
        ("--data {trap} --bundle nowhere", "nowhere"),
        ("--features {trap}/cut.png --out {out}.csv --bundle nowhere", "nowhere"),
    ],
    "cite": [("nothing", "nothing")],
    "demo": [("--out {out} --devices three", "three")],
    "encode": [
        ("{trap}/cut.png --out {out}.npz --encoder resnet51", "resnet51"),
        ("{trap}/cut.png --out {out}.npz --encoder phantom_cnn --weights random --set image.sise=3", "image.sise"),
    ],
    "evaluate": [
        (f"{FIT} --captions {{trap}}/captions.csv {options}", name)
        for options, name in [
            ("--bundle nowhere", "nowhere"),
            ("--metrics radgraf", "radgraf"),
            ("--set text.sektion=findings", "sektion"),
            ("--set training.epochs=3", "training.epochs"),
            ("--part tst", "tst"),
            ("--convention chexbert", "chexbert"),
            ("--protocol r3gen", "r3gen"),
            ("--figures gif", "gif"),
        ]
    ]
    + [(f"{FIT} --split {{trap}}/cut.png", "cut.png: damaged")],
    "explain": [("{trap}/cut.png --out {out}.png --bundle nowhere", "nowhere")],
    "export": [("--out {out} --bundle nowhere", "nowhere"), ("--out {out} --format onxx", "onxx")],
    "fetch": [("nothing", "nothing")],
    "import-legacy": [("--weights {trap}/cut.png --out {out} --normalisation image", "image")],
    "phantom": [("--out {out} --difficulty medium", "medium")],
    "prepare": [("{trap} --columns text=words", "'text' is no role"), ("{trap} --engine spark", "spark")],
    "pull": [("nowhere", "nowhere")],
    "push": [("nowhere hf://me/mine", "nowhere"), ("phantom_attention mine", "mine")],
    "review": [("sumarise", "sumarise")],
    "score": [("--references {trap}/captions.csv --hypotheses {trap}/captions.csv --convention chexbert", "chexbert")],
    "serve": [("--bundle nowhere", "nowhere"), ("--runtime onx", "onx")],
    "sweep": [
        (f"{FIT} --grid training.speed=1,2", "speed"),
        (f"{FIT} --grid model.decoder=gru,gruu", "gruu"),
        (f"{FIT} --grid model.pool=1,2 --encoder {{trap}}/nowhere", "nowhere"),
        (f"{FIT} --grid model.pool=1,2 --weights random --split {{trap}}/cut.png", "cut.png: damaged"),
    ],
    **{
        command: [
            (f"{FIT} {options}", name)
            for options, name in [
                ("--preset best", "best"),
                ("--set training.speed=3", "speed"),
                ("--set model.encoder=resnet51", "resnet51"),
                ("--weights nowhere", "nowhere"),
                ("--log tensorbord", "tensorbord"),
                ("--devices three", "three"),
                ("--preset phantom_attention --weights random --split {trap}/cut.png", "cut.png: damaged"),
            ]
        ]
        for command in ("train-encoder", "train")
    },
}
WRONG["train"] += [
    (f"{FIT} --weights random --set model.decoder=gruu", "gruu"),
    (f"{FIT} --encoder {{trap}}/nowhere", "nowhere"),
    (f"{FIT} --start-from nowhere", "nowhere"),
]


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of data that cannot be read: whoever tries says so."""
    folder = tmp_path_factory.mktemp("trap")
    (folder / "captions.csv").write_text('image,caption\n"a.png,clear\n', "utf-8")
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\nno image")
    return folder


def test_every_command_is_there() -> None:
    assert WRONG.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", sorted(WRONG))
def test_a_wrong_name_comes_before_the_data(
    command: str, trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for options, name in WRONG[command]:
        capfd.readouterr()
        line = [command, *(word.format(trap=trap, out=tmp_path / "out") for word in options.split())]
        status, error = main(line), capfd.readouterr().err
        assert status == 2, (line, error)
        assert error.count("\n") == 1, error
        assert name in error, (line, error)
        assert "captions.csv" not in error, "data were read first"
        assert not any(tmp_path.iterdir()), line
