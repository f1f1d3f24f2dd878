"""Encoders and decoders of other packages, by the example of docs/own_models.md."""

import json
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xray_captioning as xc
from xray_captioning import plugins
from xray_captioning.backend import ops
from xray_captioning.cli import main
from xray_captioning.config import Config, ModelConfig
from xray_captioning.decoders import DECODERS, CaptionModel, Features
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import ENCODERS
from xray_captioning.errors import BundleError, ConfigError

pytestmark = pytest.mark.usefixtures("eagerly")

PAGE = (Path(__file__).parents[1] / "docs" / "own_models.md").read_text("utf-8")
OWN = {"model.encoder": "four_halvings", "model.decoder": "luong"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture(autouse=True)
def registered_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tables = (ENCODERS, DECODERS, plugins._MODULES)
    before = [dict(table) for table in tables]
    yield
    for table, rows in zip(tables, before):
        table.clear()
        table.update(rows)  # type: ignore[arg-type]


def install(folder: Path, module: str, text: str, groups: dict[str, dict[str, str]], package: str = "") -> Path:
    """Write a module and what an installer writes beside it."""
    folder.mkdir()
    (folder / f"{module}.py").write_text(text, "utf-8")
    name = package or module
    info = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", "utf-8")
    points = [f"[{g}]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for g, p in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(points), "utf-8")
    return folder


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of the page's package, on the path but not yet imported."""
    project = tomllib.loads(blocks("toml")[0])["project"]
    text = "\n\n".join(blocks("python"))
    groups = project["entry-points"]
    folder = install(tmp_path / "site", "my_nets", text, groups, project["name"])
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    return folder


def batch(grid: tuple[int, int, int]) -> dict[str, np.ndarray]:
    rng, regions = np.random.default_rng(0), int(np.prod(grid))
    mask = np.ones((3, regions), bool)
    mask[0, regions // 2 :] = False
    return {
        "regions": rng.normal(size=(3, regions, 5)).astype("float32"),
        "mask": mask,
        "tokens": rng.integers(1, 23, (3, 7)).astype("int32"),
    }


def test_the_pages_decoder_keeps_the_contract(package: Path) -> None:
    grid = (2, 2, 3)
    assert "my_nets" not in sys.modules
    model = CaptionModel(ModelConfig(decoder="luong", units=8, head=6), 23, grid, 5)
    assert model.decoder.sharpness == 1
    inputs = batch(grid)
    whole = ops.convert_to_numpy(model(inputs))
    state = model.start(Features(inputs["regions"], inputs["mask"]))
    for place, token in enumerate(inputs["tokens"].T):
        logits, state = model.step(token, state)
        np.testing.assert_allclose(ops.convert_to_numpy(logits), whole[:, place], atol=1e-5)
    attention = ops.convert_to_numpy(state["attention"])
    np.testing.assert_allclose(attention.sum(axis=1), 1, atol=1e-5)
    assert not attention[0, 6:].any()


def test_commands_find_them(package: Path, phantoms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = str(next(phantoms.rglob("*.png")))
    out = tmp_path / "features.npz"
    assert main(["encode", image, "--encoder", "four_halvings", "--out", str(out)]) == 0
    assert np.load(out)["regions"].shape == (1, 1, 14, 14, 96)
    assert main(["encoders"]) == 0
    assert "four_halvings\n  of the package my-nets 1.0" in capsys.readouterr().out


def test_a_bundle_names_its_package_and_needs_it(
    package: Path,
    phantoms: Path,
    tmp_path: Path,
    tiny_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    image, run = str(next(phantoms.rglob("*.png"))), tmp_path / "run"
    config = tiny_config.replace({**OWN, "image.size": 32, "model.options.sharpness": 2})
    encoder, tokenizer = xc.Encoder("four_halvings", 32), xc.Tokenizer.fit(["no effusion ."])
    model = new_model(config, encoder, tokenizer)
    config = config.replace({"model.options": {}})
    captioner = xc.Captioner(config, encoder, model, tokenizer)
    captioner.save(run)
    about = json.loads((run / "captioner.json").read_text("utf-8"))
    made = {"package": "my-nets", "version": "1.0"}
    assert about["needs"] == {"encoder": made, "decoder": made}
    assert about["config"]["model"]["options"] == {"sharpness": 2.0}  # each, as it was made
    assert "my-nets 1.0" in (run / "README.md").read_text("utf-8")

    forget(monkeypatch)
    assert xc.Captioner.load(run).caption([[image]])[0].text == captioner.caption([[image]])[0].text
    forget(monkeypatch)
    shutil.rmtree(package)
    for load in (xc.Captioner.load, xc.Encoder.load):
        with pytest.raises(BundleError, match=r"is of another package; pip install my-nets$"):
            load(run)
    assert main(["caption", "--bundle", str(run), image]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a new process."""
    monkeypatch.delitem(sys.modules, "my_nets", raising=False)
    for table, name in ((ENCODERS, "four_halvings"), (DECODERS, "luong")):
        table.pop(name, None)  # type: ignore[attr-defined]
    plugins._MODULES.clear()


def test_options_are_checked_by_name(package: Path) -> None:
    def refused(decoder: str, **options: object) -> str:
        with pytest.raises(ConfigError) as found:
            CaptionModel(ModelConfig(decoder=decoder, options=options), 9, (1, 1, 1), 5)
        return str(found.value)

    assert "model.options.depth: the decoder 'luong' has no such field of its own; it has sharpness" in (
        refused("luong", depth=3)
    )
    assert "model.options.sharpness: Expected float, got str" in refused("luong", sharpness="x")
    assert "'gru' has no such field of its own; it has none" in refused("gru", sharpness=2)
    assert Config().replace({"model.options.a": 1}).model.options == {"a": 1}


def test_names_clash_in_one_line(package: Path, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(ConfigError, match=r"xray_captioning has encoder 'vit' already"):
        xc.register_encoder("vit", lambda size, published: None)
    kind = xc.Decoder
    with pytest.raises(ConfigError, match=r"xray_captioning has decoder 'gru' already"):
        xc.register_decoder("gru", kind)
    xc.register_decoder("mine", type("Mine", (kind,), {"__module__": "one"}))
    xc.register_decoder("mine", type("Mine", (kind,), {"__module__": "one"}))  # a cell run again
    with pytest.raises(ConfigError, match=r"two: one has decoder 'mine' already"):
        xc.register_decoder("mine", type("Mine", (kind,), {"__module__": "two"}))
    group = {"xray_captioning.encoders": {"four_halvings": "other"}}
    monkeypatch.syspath_prepend(install(tmp_path / "other", "other", "", group))
    with pytest.raises(ConfigError, match=r"my-nets and other each have encoder 'four_halvings'"):
        xc.Encoder("four_halvings", 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nothing_of_this_name", r"'odd' of the package odd_nets cannot be imported \(No mo"),
        ("", r"unknown encoder 'odd'; the package odd_nets lists it, but does not register it"),
        (
            "import keras, xray_captioning as xc\n"
            "build = lambda size, published: keras.Sequential([keras.layers.Flatten()])\n"
            "xc.register_encoder('odd', build)",
            r"encoder 'odd' built Sequential with output .*; it must build a keras.Model from",
        ),
    ],
)
def test_a_package_that_does_not_fit_is_one_line(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"xray_captioning.encoders": {"odd": "odd_nets"}}
    monkeypatch.syspath_prepend(install(tmp_path / "odd", "odd_nets", text, group))
    monkeypatch.delitem(sys.modules, "odd_nets", raising=False)
    with pytest.raises(ConfigError, match=message) as found:
        xc.Encoder("odd", 32)
    assert "\n" not in str(found.value)


def test_what_cannot_be_registered_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"derive one from xc\.Decoder"):
        xc.register_decoder("mine", dict)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"unitz: `fields` are of attention.* others"):
        xc.register_decoder("mine", xc.Decoder, fields=["unitz"])
    with pytest.raises(ConfigError, match="pooling is 'sum'; choose mean or evidence"):
        xc.register_encoder("mine", lambda size, published: None, pooling="sum")
    with pytest.raises(ConfigError, match="a name of decoder is ''; give a text"):
        xc.register_decoder("", xc.Decoder)
    with pytest.raises(ConfigError, match=r"unknown decoder 'mine'; decoders are simple.*own_models"):
        plugins.find_model(DECODERS, "decoder", "mine")
