import json
from importlib import resources
from pathlib import Path

import pytest

from xray_captioning.bundles.bundle import (
    bundle_files,
    find_bundle,
    read_bundle,
    rewrite_bundle,
    shipped_bundles,
    write_bundle,
)
from xray_captioning.errors import BundleError

FILES = ("encoder.weights.h5", "decoder.weights.h5", "tokenizer.json", "README.md")


def writer(kind: str = "captioner", note: str = "", **changes: object):
    """Return a function that writes the files of a bundle, with stand-ins for the weights."""

    def write(folder: Path) -> None:
        values = {"format": 1, "kind": kind, "about": {"note": note}, **changes}
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
        ("[]", "expected an object"),
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


@pytest.mark.parametrize("moves", range(7))
def test_an_interrupt_leaves_no_half_of_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int) -> None:
    write_bundle(tmp_path, writer(note="old"))
    replace, count = Path.replace, iter(range(100))

    def stop(path: Path, target: Path) -> Path:
        if next(count) == moves:
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    try:
        write_bundle(tmp_path, writer(note="new"))
    except KeyboardInterrupt:
        with pytest.raises(BundleError, match="no complete bundle"):
            read_bundle(tmp_path, "captioner")
    else:
        assert moves >= 5, "not all files were moved"
        assert read_bundle(tmp_path, "captioner")["about"] == {"note": "new"}
    assert not list(tmp_path.glob(".*"))


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
