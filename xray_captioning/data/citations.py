"""What a paper cites: BibTeX of ``citations.bib`` for the data, metrics and encoders that ``citations.toml`` names."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase as fnmatch
from itertools import chain
from pathlib import Path

from xray_captioning import __version__
from xray_captioning.bundles.bundle import FEATURES, find_bundle, read_values
from xray_captioning.data.provenance import PHANTOM_NOTICE, is_phantom
from xray_captioning.data.sources.reading import detect
from xray_captioning.errors import DataError
from xray_captioning.files import read_toml
from xray_captioning.hub.fetch import registered_name

_TABLE = read_toml(__file__, "citations.toml")
DATA, ENCODERS = _TABLE["data"], _TABLE["encoders"]


def bibtex(names: Iterable[str]) -> str:
    """Return entries for this software, its metrics and what names say: bundles, data, encoders or collections."""
    text = Path(__file__).with_name("citations.bib").read_text("utf-8").replace("{VERSION}", f"{{{__version__}}}")
    entries = {re.findall(r"{(\w+)", entry)[0]: entry.strip() for entry in text.split("\n\n")}
    used = {"this software": ["xray_captioning"], "metrics of evaluate, and its findings": _TABLE["metrics"]}
    for name in names:
        used |= _used(name)
    told = [f"% {what.replace('@', ' at ')}: {', '.join(keys) or 'nothing known'}" for what, keys in used.items()]
    return "\n\n".join(["\n".join(told), *(entries[key] for key in dict.fromkeys(chain(*used.values())))]) + "\n"


def _used(name: str) -> dict[str, list[str]]:
    """Return the keys of entries by what they are of."""
    path, known = Path(name), DATA.get(name, _of_encoder(name))
    if known is not None and not path.exists():
        return {name: known}
    if path.exists() and not (path / "captioner.json").is_file():
        kind = "phantoms" if path.is_dir() and is_phantom(path) else detect(path).source.name
        return {f"{name}, data read as {kind}": DATA.get(kind, [])}
    if not (folder := find_bundle(name)).is_dir():
        raise DataError(f"{name}: is no bundle, data, encoder or collection; collections are {', '.join(DATA)}")
    values = read_values(folder)
    about, encoder = values["about"], values["config"]["model"]["encoder"]
    encoder = about.get(FEATURES, {}).get("encoder", encoder) if encoder == FEATURES else encoder
    kind = "phantoms" if about.get("notice") == PHANTOM_NOTICE else about.get("data", {}).get("read_as")
    found = _of_encoder(encoder) or []
    return {f"{name}, encoder {encoder}": found, f"{name}, data read as {kind}": DATA.get(kind, [])}


def _of_encoder(name: str) -> list[str] | None:
    name = registered_name(name)
    return ENCODERS.get(max((one for one in ENCODERS if fnmatch(name, one)), key=len, default=""))
