import hashlib
import json
import os
from importlib import resources
from pathlib import Path

import pytest

from xray_captioning.bundles.bundle import (
    bundle_files,
    find_bundle,
    identity,
    named,
    read_bundle,
    rewrite_bundle,
    shipped_bundles,
    write_bundle,
)
from xray_captioning.errors import BundleError, ConfigError

GRAPH = {"inputs": {"a": ["float32", ["rows", 3]]}, "outputs": {"b": ["rows"]}}
GRAPHS = dict.fromkeys(("encoder", "start", "step"), GRAPH)
EXPORT = {"format": "onnx", "channels": 8, "graphs": GRAPHS}  # as one of an older version may be
VALUES: dict[str, object] = {"config": {}, "findings": ["Edema"], "grid": [7, 7]}
FILES = ("encoder.weights.h5", "decoder.weights.h5", "tokenizer.json", "README.md")


def writer(kind: str = "captioner", note: str = "", **changes: object):
    """Return a function that writes the files of a bundle, with stand-ins for the weights."""

    def write(folder: Path) -> None:
        values = {"format": 1, "kind": kind, "about": {"note": note}, **VALUES, **changes}
        (folder / "captioner.json").write_text(json.dumps(values), "utf-8")
        for name in FILES if kind == "captioner" else (FILES[0], FILES[3]):
            (folder / name).write_bytes(f"{name} {note}".encode())

    return write


def test_write_and_read(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "bundle"
    write_bundle(folder, writer(note="first"))
    assert read_bundle(folder, "captioner")["about"] == {"note": "first"}
    names = {path.name for path in folder.iterdir()}
    assert names == {"captioner.json", "manifest.json", *FILES}


def test_a_captioner_serves_as_an_encoder_but_not_the_other_way(tmp_path: Path) -> None:
    write_bundle(tmp_path / "captioner", writer())
    write_bundle(tmp_path / "encoder", writer("encoder"))
    assert read_bundle(tmp_path / "captioner", "encoder")["kind"] == "captioner"
    assert read_bundle(tmp_path / "encoder", "encoder")["kind"] == "encoder"
    with pytest.raises(BundleError, match="encoder: holds an encoder only; train a decoder"):
        read_bundle(tmp_path / "encoder", "captioner")


def test_a_bundle_of_before_is_called_as_its_folder(tmp_path: Path) -> None:
    write_bundle(tmp_path / "old", writer())
    own = identity(tmp_path / "old")
    digest = hashlib.sha256((tmp_path / "old" / "manifest.json").read_bytes()).hexdigest()
    assert own == ("old", "1", digest, "")
    assert str(own) == f"old 1, SHA-256 {digest}"


def test_a_bundle_keeps_its_name(tmp_path: Path) -> None:
    write_bundle(tmp_path / "run", writer(name="run"))
    (tmp_path / "run").rename(tmp_path / "other")
    assert identity(tmp_path / "other").name == "run"
    write_bundle(tmp_path / "told", writer(name="told", about={"name": "mine", "version": "2.1"}))
    assert identity(tmp_path / "told")[:2] == ("mine", "2.1")
    write_bundle(tmp_path / "bad", writer(about={"name": 3}))
    with pytest.raises(BundleError, match=r"Expected `str`, got `int` - at `\$\.about\.name`"):
        read_bundle(tmp_path / "bad", "captioner")


@pytest.mark.parametrize("name", ["../outside", "/outside", "..", ".", "a\\.."])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    """A captioner that is pushed is saved under its name first."""
    write_bundle(tmp_path / "own", writer(name=name))
    write_bundle(tmp_path / "told", writer(about={"name": name}))
    for folder in ("own", "told"):
        with pytest.raises(BundleError, match=r"name"):
            read_bundle(tmp_path / folder, "captioner")


def test_names_that_are_told() -> None:
    assert named(None) == {}
    assert named("mine") == {"name": "mine", "version": "1"}
    assert named("mine@1.2-b") == {"name": "mine", "version": "1.2-b"}
    for bad in ("", "a b", "a/b", "@1", "a@", "a@1@2", "a\n", "..", ".@1"):
        with pytest.raises(ConfigError, match="write NAME or NAME@VERSION"):
            named(bad)


def test_one_file_is_changed_and_the_others_kept(tmp_path: Path) -> None:
    write_bundle(tmp_path, writer())
    (tmp_path / "log.csv").write_text("epoch\n")
    before = {name: (tmp_path / name).read_bytes() for name in bundle_files(tmp_path)}
    assert set(before) == {"captioner.json", *FILES}
    rewrite_bundle(tmp_path, lambda folder: (folder / "README.md").write_text("new") and None)
    assert read_bundle(tmp_path, "captioner")
    after = {name: (tmp_path / name).read_bytes() for name in bundle_files(tmp_path)}
    assert after == {**before, "README.md": b"new"}


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("epoch\n")
    write_bundle(tmp_path, writer())
    (tmp_path / "log.csv").write_text("epoch\n1\n")
    assert read_bundle(tmp_path, "captioner")
    assert (tmp_path / "log.csv").read_text() == "epoch\n1\n"


def test_an_altered_or_missing_file_is_named(tmp_path: Path) -> None:
    for name in ("captioner.json", *FILES):
        write_bundle(tmp_path, writer())
        content = bytearray((tmp_path / name).read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BundleError, match=f"{name}: altered since it was saved; copy the"):
            read_bundle(tmp_path, "captioner")
        (tmp_path / name).unlink()
        with pytest.raises(BundleError, match=f"{name}: missing; copy the whole bundle again"):
            read_bundle(tmp_path, "captioner")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "missing"),
        ("", "not JSON"),
        ("[]", "Expected `object`"),
        ("{}", "does not name captioner.json"),
        ('{"captioner.json": ', "not JSON"),
        ('{"captioner.json": 3}', "altered"),
        ('{"../captioner.json": "x"}', "altered"),
    ],
)
def test_a_damaged_manifest(tmp_path: Path, content: str | None, message: str) -> None:
    write_bundle(tmp_path, writer())
    path = tmp_path / "manifest.json"
    path.unlink()
    if content is not None:
        path.write_text(content, "utf-8")
    with pytest.raises(BundleError, match=message):
        read_bundle(tmp_path, "captioner")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("about", None, r"Expected `object`, got `null` - at `\$.about`"),
        ("about", {"data": "x"}, r"Expected `object`, got `str` - at `\$.about.data`"),
        ("about", {"notice": 3}, r"Expected `str`, got `int` - at `\$.about.notice`"),
        ("about", {"rows": {"a": 1}}, r"Expected `array . null`, got `object` - at `\$.about.rows`"),
        ("about", {"pointing_game": {"rows": [{"method": "attention"}]}}, "Object missing required field `words`"),
        ("about", {"pointing_game": {"offset": [0.1]}}, "Expected `array` of length 2"),
        ("findings", [3], r"Expected `str`, got `int` - at `\$.findings\[0\]`"),
        ("grid", [7, 0], r"Expected `int` >= 1 - at `\$.grid\[1\]`"),
        ("kind", "x", "Invalid enum value 'x'"),
        ("needs", {"features": {"channels": "x"}}, r"Expected `int`, got `str` - at `\$.needs"),
        ("export", None, r"Expected `object`, got `null` - at `\$.export`"),
        ("export", {**EXPORT, "format": "onxx"}, r"Invalid enum value 'onxx' - at `\$.export.format`"),
        ("export", {**EXPORT, "channels": "8"}, r"Expected `int`, got `str` - at `\$.export.channels`"),
        ("export", {**EXPORT, "precision": "int4"}, r"Invalid enum value 'int4' - at `\$.export.precision`"),
        ("export", {**EXPORT, "bundle": 3}, r"Expected `str . null`, got `int` - at `\$.export.bundle`"),
        ("export", {**EXPORT, "graphs": {"encoder": GRAPH, "start": GRAPH}}, "Object missing required field `step`"),
        ("export", {**EXPORT, "graphs": {**GRAPHS, "steps": GRAPH}}, "Object contains unknown field `steps`"),
        ("export", {**EXPORT, "graphs": {**GRAPHS, "step": {"inputs": {}}}}, "Object missing required field `outputs`"),
        ("export", {**EXPORT, "graphs": {**GRAPHS, "step": {**GRAPH, "inputs": {"a": 3}}}}, "Expected `array`"),
    ],
)
def test_a_field_of_another_kind(tmp_path, name, value, message):
    write_bundle(tmp_path, writer(**{name: value}))
    with pytest.raises(BundleError, match=rf"captioner.json: {message}.*; copy the whole bundle again"):
        read_bundle(tmp_path, "captioner")


@pytest.mark.parametrize("name", ["kind", "config", "findings", "grid", "about"])
def test_a_missing_field(tmp_path, name):
    def write(folder: Path) -> None:
        writer()(folder)
        values = json.loads((folder / "captioner.json").read_text())
        del values[name]
        (folder / "captioner.json").write_text(json.dumps(values))

    write_bundle(tmp_path, write)
    with pytest.raises(BundleError, match=f"captioner.json: Object missing required field `{name}`"):
        read_bundle(tmp_path, "captioner")


def test_another_format(tmp_path: Path) -> None:
    write_bundle(tmp_path, writer(format=2))
    with pytest.raises(BundleError, match="bundle format 2, expected 1; install the version"):
        read_bundle(tmp_path, "captioner")


def test_what_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for name in ("nothing", "file"):
        with pytest.raises(BundleError, match=f"{name}: no such bundle; give a folder"):
            read_bundle(tmp_path / name, "captioner")


def test_a_failure_early_leaves_the_old_bundle(tmp_path: Path) -> None:
    write_bundle(tmp_path, writer(note="old"))

    def fail(folder: Path) -> None:
        writer(note="new")(folder)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_bundle(tmp_path, fail)
    assert read_bundle(tmp_path, "captioner")["about"] == {"note": "old"}
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("moves", range(9))
def test_wherever_writing_breaks_off_there_is_a_whole_bundle(tmp_path, monkeypatch, moves, stopped):
    write_bundle(tmp_path, writer(note="old"))
    count = iter(range(100))

    def breaking(move):
        def moved(*paths: object) -> object:
            if next(count) == moves:
                raise stopped(5, "Input/output error")
            return move(*paths)

        return moved

    for name in ("replace", "rename"):
        monkeypatch.setattr(os, name, breaking(getattr(os, name)))
    try:
        write_bundle(tmp_path, writer(note="new"))
    except (KeyboardInterrupt, OSError, BundleError):
        assert moves < 8
    else:
        assert moves == 8, "not all files were moved"
    note = read_bundle(tmp_path, "captioner")["about"]["note"]
    assert note == ("old" if moves < 2 else "new")
    assert {(tmp_path / name).read_text() for name in FILES} == {f"{name} {note}" for name in FILES}
    assert not list(tmp_path.glob(".*"))
    assert set(bundle_files(tmp_path)) == {"captioner.json", *FILES}


def test_a_bundle_that_cannot_be_settled_says_so(tmp_path, monkeypatch):
    write_bundle(tmp_path / "made", writer(note="new"))
    write_bundle(tmp_path, writer(note="old"))
    (tmp_path / "made").rename(tmp_path / ".bundle")

    def refuse(*paths: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(BundleError, match=r"\.bundle: the files of a new bundle cannot be moved \(Permission denied\)"):
        read_bundle(tmp_path, "captioner")


def test_find_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_bundle(tmp_path) == tmp_path
    assert find_bundle("runs/none") == Path("runs/none")
    monkeypatch.chdir(tmp_path)
    for name in shipped_bundles():
        assert read_bundle(find_bundle(name), "captioner")
        (tmp_path / name).mkdir()
        assert find_bundle(name) == Path(name)


def test_a_checkout_that_is_not_installed_finds_its_shipped_bundles(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(resources, "files", absent)
    assert "phantom_attention" in shipped_bundles()
