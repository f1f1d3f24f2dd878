"""A saved model: a folder of JSON and HDF5 files (docs/architecture.md) with a SHA-256 manifest, written last, and no
pickle. A folder ``export`` in it may hold the same captioner as graphs (`xray_captioning.captioner.graphs`): a bundle
of its own, with graphs in the place of the weights.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType, convert

from xray_captioning import files, plugins
from xray_captioning.config import Config
from xray_captioning.errors import BundleError, ConfigError, one_error
from xray_captioning.hub import repositories

FORMAT = 1
MANIFEST = repositories.MANIFEST
_WHOLE = ".bundle"  # a new bundle whose files are not yet in their places
NEEDED: dict[str, tuple[str, ...]] = {"encoder": ("captioner.json", "encoder.weights.h5")}
NEEDED["captioner"] = (*NEEDED["encoder"], "decoder.weights.h5", "tokenizer.json")
FEATURES = "features"  # model.encoder of a captioner that has no encoder but needs features
FEATURES_ONLY = "sees no images; give features (--features), or train it with the encoder that made them (--encoder)"
PARTS = {"encoder": ("encoder",), "captioner": ("encoder", "decoder")}


# No path, because folders are called so. The last of one is what Windows may find in a name without a slash.
_Name = Annotated[str, Meta(pattern=r"^(?!(.*\\)?\.\.?$)[^/]*$")]


class _Pointed(Struct):
    method: str
    words: str
    finding: str
    n: int
    hits: float
    chance: float
    low: float


class _Pointing(Struct):
    rows: list[_Pointed] = []
    offset: tuple[float, float] | None = None


class _Told(Struct):
    data: dict[str, Any] = {}
    rows: list[dict[str, Any]] | None = None
    pointing_game: _Pointing | UnsetType = UNSET
    notice: str = ""
    name: _Name = ""
    version: str = "1"


class _Need(Struct):
    channels: Annotated[int, Meta(ge=1)] = 1
    module: str = ""
    package: str = ""


class _Graph(Struct):
    inputs: dict[str, tuple[str, list[str | int]]]
    outputs: dict[str, list[str | int]]


class _Graphs(Struct, forbid_unknown_fields=True):
    encoder: _Graph
    start: _Graph
    step: _Graph
    classifier: _Graph | UnsetType = UNSET


class _Export(Struct):
    format: Literal["onnx", "openvino", "litert", "saved_model"]
    channels: Annotated[int, Meta(ge=1)]
    graphs: _Graphs
    bundle: str | None = None
    precision: Literal["float32", "bfloat16", "int8"] = "float32"


class _Values(Struct):
    """What captioner.json has to hold, whatever else it does."""

    kind: Literal["encoder", "captioner"]
    config: dict[str, Any]
    findings: list[str]
    grid: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]
    about: _Told
    name: _Name = ""
    needs: dict[str, _Need] = {}
    export: _Export | UnsetType = UNSET


_AGAIN = "copy the whole bundle again"
_NOT_WHOLE = f"this is no complete bundle: finish its training with --resume, or {_AGAIN}"


def write_bundle(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, which then is the bundle, and move its files to their places."""
    # Wherever that breaks off, there is a whole bundle: the old one or, once the temporary folder has its last name,
    # the new one, for whoever reads it next goes on moving. Files of other names in the folder are left alone.
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    with files.temporary_folder(folder, "bundle") as aside:
        with files.naming(folder):
            write(aside)
        digests = {path.relative_to(aside).as_posix(): files.sha256_file(path) for path in _files(aside)}
        files.atomic_write(aside / MANIFEST, json.dumps(digests, indent=2) + "\n")
        aside.rename(folder / _WHOLE)
    _settle(folder)


def _settle(folder: Path) -> None:
    """Move the files of a new bundle to their places, the manifest last."""
    new = folder / _WHOLE
    if not new.is_dir():
        return
    try:
        for path in sorted(_files(new), key=lambda path: path.name == MANIFEST):
            place = folder / path.relative_to(new)
            place.parent.mkdir(exist_ok=True, parents=True)
            with suppress(FileNotFoundError):  # another process reads it, and moves, too
                path.replace(place)
        for emptied in sorted((path for path in (new, *new.rglob("*")) if path.is_dir()), reverse=True):
            emptied.rmdir()
    except OSError as error:
        # Another process has moved all of them and removed the folders, or the next bundle is already there.
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            return
        reason = f"({error.strerror}); open it once as somebody who may write there"
        raise BundleError(f"{new}: the files of a new bundle cannot be moved {reason}") from error


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def rewrite_bundle(folder: Path, change: Callable[[Path], None]) -> None:
    """Let `change` alter copies of a bundle's files, and keep the others, byte for byte."""

    def write(aside: Path) -> None:
        copy_files(folder, aside)
        (aside / MANIFEST).unlink()
        change(aside)

    write_bundle(folder, write)


def copy_files(folder: Path, other: Path) -> None:
    """Copy a bundle's files, and no others, byte for byte."""
    for name in (*bundle_files(folder), MANIFEST):
        (other / name).parent.mkdir(exist_ok=True, parents=True)
        shutil.copyfile(folder / name, other / name)


def bundle_files(folder: Path) -> list[str]:
    """Return the names of a bundle's own files, without the manifest."""
    _settle(folder)
    return [_inside(name) for name in files.read_json(folder / MANIFEST, _NOT_WHOLE)]


def _inside(name: str) -> str:
    # What a manifest names is below its folder, whatever it says.
    path = Path(name)
    return path.name if path.anchor or ".." in path.parts else name


def read_bundle(folder: Path, kind: str, images: bool = False, exported: bool = False) -> dict[str, Any]:
    """Check every file against the manifest and return ``captioner.json``, or raise `BundleError`."""
    # A captioner may be read as an encoder, unless it was trained on features and sees no `images`; an `exported` one
    # may hold graphs in the place of Keras' weights.
    if not folder.is_dir():
        names = ", ".join(shipped_bundles()) or "none"
        raise BundleError(f"{folder}: no such bundle; give a folder that train wrote, or one of the shipped: {names}")
    _settle(folder)
    digests, about = _checked_files(folder), read_values(folder)
    if kind == "captioner" and about["kind"] != "captioner":
        raise BundleError(f"{folder}: holds an encoder only; train a decoder with train --encoder {folder}")
    if "export" in about and not exported:
        raise BundleError(f"{folder}: holds exported graphs, not Keras' weights; give the bundle they are of")
    blind = FEATURES in about.get("needs", ())
    if blind and (images or kind == "encoder"):
        raise BundleError(f"{folder}: was trained on features and {FEATURES_ONLY}")
    for name in NEEDED[kind]:
        absent = "export" in about or (blind and name == "encoder.weights.h5")
        if name not in digests and not (absent and name.endswith(".h5")):
            raise BundleError(f"{folder / MANIFEST}: does not name {name}; {_NOT_WHOLE}")
    _check_packages(folder, kind, about)
    return about


def _checked_files(folder: Path) -> dict[str, str]:
    digests: dict[str, str] = files.read_json(folder / MANIFEST, _NOT_WHOLE)
    for name, digest in digests.items():
        path = folder / _inside(name)
        if not path.is_file():
            raise BundleError(f"{path}: missing; {_AGAIN}")
        if files.sha256_file(path) != digest:
            raise BundleError(f"{path}: altered since it was saved; {_AGAIN}")
    return digests


def read_values(folder: Path) -> dict[str, Any]:
    """Return ``captioner.json`` with fields as they should be, or raise `BundleError`."""
    about: dict[str, Any] = files.read_json(folder / "captioner.json", _NOT_WHOLE)
    if (form := about.get("format")) != FORMAT:
        raise BundleError(f"{folder}: bundle format {form}, expected {FORMAT}; install the version that wrote it")
    with one_error(BundleError, f"{folder}/captioner.json: {{error}}; {_AGAIN}"):
        convert(about, _Values)
    return about


def _check_packages(folder: Path, kind: str, about: dict[str, Any]) -> None:
    for part in set(PARTS[kind]) & set(about.get("needs", ())):
        name, need = about["config"]["model"][part], about["needs"][part]
        if not plugins.origin_of(part, name):
            imported = f"import the module {need.get('module')} first"
            advice = f"pip install {need['package']}" if "package" in need else imported
            raise BundleError(f"{folder}: its {part} {name!r} is of another package; {advice}")


def read_config(folder: Path, kind: str) -> Config:
    """Return the configuration of a bundle that :func:`read_bundle` accepts."""
    return Config.from_dict(read_bundle(folder, kind)["config"], f"{folder}/captioner.json")


class Identity(NamedTuple):
    """What a bundle is called: its own name and version, and what tells its files from any others."""

    name: str
    version: str = "1"
    digest: str = ""  # the SHA-256 of its manifest; none before it is saved
    origin: str = ""  # the address of the hub that it was pulled from, with the revision

    def __str__(self) -> str:
        origin, digest = self.origin and f" from {self.origin}", self.digest and f", SHA-256 {self.digest}"
        return f"{self.name} {self.version}{origin}{digest}"


def identity(folder: Path, values: dict[str, Any] | None = None) -> Identity:
    """Return what a bundle is called: as it was told, as its folder when it was saved or, of before, as that is now."""
    values, origin = values or read_values(folder), repositories.origins.get(folder.absolute(), "")
    usual = re.split("[@/]", origin.partition("://")[2])[1] if origin else folder.resolve().name
    told = {"name": values.get("name", usual), "version": "1", **values["about"]}
    return Identity(told["name"], told["version"], files.sha256_file(folder / MANIFEST), origin)


def named(text: str | None) -> dict[str, str]:
    """Return the name, and perhaps the version, that NAME[@VERSION] gives a bundle; nothing without a text."""
    if text is not None and not re.fullmatch(r"\w[\w.-]*(@[\w.-]+)?", text):
        form = "NAME or NAME@VERSION, of letters, digits and underscores, dots and dashes behind the first"
        raise ConfigError(f"name {text!r}: write {form}")
    name, _, version = (text or "").partition("@")
    return {"name": name, "version": version or "1"} if text else {}


def find_bundle(name: str | Path) -> Path:
    """Return the folder of a bundle: a path, the name of a shipped one, or pulled from an address of a hub."""
    if repositories.is_hub(name):
        return repositories.pull(str(name))
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigError(f"expected the folder or the name of a bundle, got {type(name).__name__}")
    if not Path(name).exists() and str(name) in shipped_bundles():
        return files.shipped_folder() / str(name)
    return Path(name)


def shipped_bundles() -> list[str]:
    """Return the names of the bundles inside the package."""
    return sorted(path.parent.name for path in files.shipped_folder().glob(f"*/{MANIFEST}"))


def model_card(values: dict[str, Any], calibration: dict[str, Any] | None = None) -> str:
    """Return ``card.jinja``, filled in from ``captioner.json`` and a calibration's ``about``."""
    from jinja2 import Template

    text = Path(__file__).with_name("card.jinja").read_text("utf-8")
    return Template(text, trim_blocks=True, keep_trailing_newline=True).render(**values, calibration=calibration)


def write_texts(aside: Path, values: dict[str, Any], tokenizer: Any = None, calibration: Any = None) -> None:
    """Write what a bundle and an exported folder hold beside the networks; an encoder has no tokenizer."""
    if tokenizer is not None:
        tokenizer.to_json(aside / "tokenizer.json")
    if calibration is not None:
        calibration.save(aside)
    write_card(aside, values)


def write_card(aside: Path, values: dict[str, Any]) -> None:
    """Write ``captioner.json`` and the card, which tells of a calibration that is there."""
    (aside / "captioner.json").write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    numbers = aside / "calibration.json"
    fitted = files.read_json(numbers, _AGAIN)["about"] if numbers.is_file() else None
    (aside / "README.md").write_text(model_card(values, fitted), "utf-8")
