"""What there is to choose from, a line each, and what a shell completes."""

import pytest

from xray_captioning import config
from xray_captioning.cli import COMMANDS, COMPLETE, main
from xray_captioning.config import fields, load_preset, presets
from xray_captioning.decoders import DECODERS
from xray_captioning.files import read_toml
from xray_captioning.hub.fetch import registry


@pytest.mark.parametrize(("command", "names"), [("decoders", DECODERS), ("presets", presets()), ("fields", fields())])
def test_every_name_has_a_line_that_says_something(command, names, capsys):
    assert main([command]) == 0
    lines = [line.partition(": ") for line in capsys.readouterr().out.splitlines()]
    assert [name.partition("=")[0] for name, _, _ in lines] == list(names)
    assert all(len(text) > 10 and text.endswith(".") for _, _, text in lines)


def test_every_published_encoder_has_its_facts(capsys):
    assert main(["encoders"]) == 0
    blocks = capsys.readouterr().out.split("\n\n")
    found = {name: lines for name, *lines in (block.splitlines() for block in blocks if block.strip())}
    assert list(found)[: len(registry())] == list(registry())
    for name, one in registry().items():
        facts = dict(line.strip().split(": ", 1) for line in found[name])
        assert list(facts) == ["network", "outputs", "pixels", "licence", "from", "verified"]
        assert facts["pixels"] == f"{one.size} px, resized as {one.resize}, scaled as {one.normalisation}"
        assert facts["licence"] == one.licence
        assert all(facts.values())


def test_fields_are_listed_as_set_takes_them(capsys):
    main(["fields"])
    assert '\nimage.resize="area": ' in capsys.readouterr().out


def test_every_field_is_explained_and_nothing_else():
    for owner, said in read_toml(config.__file__, "config.toml").items():
        groups = {name.partition(".")[0] for name in fields() if "." in name}
        assert list(said) == [name for name in getattr(config, owner).__annotations__ if name not in groups]


@pytest.mark.parametrize("name", ["my.json", "my.yaml", "my.yml"])
def test_a_preset_of_ones_own(name, tmp_path):
    if not name.endswith(".json"):
        pytest.importorskip("yaml")
    (tmp_path / name).write_text('{"about": "mine", "training": {"epochs": 3}}')  # YAML holds JSON
    config = load_preset(str(tmp_path / name))
    assert config.name == "my"
    assert config.training.epochs == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "cannot be read"), ("[1]", "fields by group"), ('{"image": {"size": 1}}', "image.size"), (None, "No such")],
)
@pytest.mark.parametrize("name", ["my.json", "my.yaml"])
def test_a_preset_that_cannot_be_read_is_one_line(name, text, said, tmp_path, capsys):
    if name == "my.yaml":
        pytest.importorskip("yaml")
    if text:
        (tmp_path / name).write_text(text)
    line = ["train", "--preset", str(tmp_path / name), "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert name in error
    assert said in error
    assert not (tmp_path / "out").exists()


def test_a_shell_completes_commands_and_options(monkeypatch, capsys):
    monkeypatch.setenv(COMPLETE, "bash_complete")
    for typed, expected in [("", set(COMMANDS)), ("caption --bun", {"--bundle"})]:
        monkeypatch.setenv("COMP_WORDS", f"xray-captioning {typed}")
        monkeypatch.setenv("COMP_CWORD", str(max(1, len(typed.split()))))
        assert main([]) == 0
        assert {line.partition(",")[2] for line in capsys.readouterr().out.splitlines()} == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_have_a_script(shell, monkeypatch, capsys):
    monkeypatch.setenv(COMPLETE, f"{shell}_source")
    monkeypatch.setattr("click.shell_completion.BashComplete._check_version", lambda *_: None)
    assert main([]) == 0
    assert COMPLETE in capsys.readouterr().out


def test_no_command_prints_the_help(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out.startswith("Usage: xray-captioning")
