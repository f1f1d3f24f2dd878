"""Where studies come from, and which studies a model was trained on.

A model must not be tested on studies it was trained on. Beside its ``split.json`` a bundle
therefore keeps ``trained_on.json``: digests by which its training studies are recognised, also
as a subset, with other reports, under other names or in losslessly re-encoded files. The
digests tell nobody what a report says or an image shows.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xray_captioning.config import Config, load_preset, presets
from xray_captioning.data.features import ArrayCache
from xray_captioning.data.images import read_images
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import (
    Split,
    check_split,
    data_digest,
    names_split,
    split_studies,
)
from xray_captioning.data.studies import with_images
from xray_captioning.errors import BundleError, ConfigError, DataError
from xray_captioning.files import atomic_write, read_json

if TYPE_CHECKING:
    import pandas as pd

SPLIT, TRAINED_ON = "split.json", "trained_on.json"
DIGESTS = ("studies", "reports", "images")
LENGTH = 6  # bytes: of a million images one in 280 million others is taken for one of them
SIDE = 64  # pixels: what of an image is compared
PHANTOM_README = "Synthetic chest radiographs and reports, made by xray_captioning."
PHANTOM_NOTICE = (
    "trained on synthetic phantoms only; it knows nothing of real radiographs and is here to show "
    "the tool at work"
)


def open_studies(studies: pd.DataFrame | str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read studies where their path is given, and return them with what `describe_data` says."""
    if isinstance(studies, (str, os.PathLike)):
        return read_studies(studies), describe_data(Path(studies))
    if not hasattr(studies, "columns"):
        raise DataError(
            f"expected studies, got {type(studies).__name__}; give a path, or the table that "
            "read_studies returns"
        )
    return studies, {}


def describe_data(path: Path) -> dict[str, Any]:
    """Return the name of the source that a model card tells, and for phantoms a notice."""
    about = {"source": path.resolve().name}
    return {**about, "notice": PHANTOM_NOTICE} if is_phantom(path) else about


def is_phantom(folder: Path) -> bool:
    """Whether a folder was written by :func:`xray_captioning.write_phantoms`."""
    readme = folder / "README.txt"
    return readme.is_file() and readme.read_text("utf-8", "replace").startswith(PHANTOM_README)


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on; digests are empty where a bundle is older than its record."""

    split: Split  # which studies trained it, chose it and were left to test it
    data: str | None  # data_digest of all these studies
    studies: frozenset[str]  # digests of the ids of the studies that trained it or its encoder
    reports: frozenset[str] = frozenset()  # of these ids with findings and impression
    images: frozenset[str] = frozenset()  # of the pixels of these studies' images

    @classmethod
    def load(cls, bundle: Path) -> TrainedOn | None:
        """Read what a bundle says of its training; None where it says nothing."""
        if not (bundle / SPLIT).is_file():
            return None
        about = read_json(bundle / "captioner.json", "copy the whole bundle again")["about"]
        data = about.get("data", {}).get("digest")
        split = Split.from_json(bundle / SPLIT)
        path = bundle / TRAINED_ON
        if not path.is_file():
            return cls(split, data, frozenset(map(_digest, split.train)))
        try:
            values = json.loads(path.read_text("utf-8"))
            digests = [frozenset(values[name].split()) for name in DIGESTS]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BundleError(f"{path}: is damaged; copy the whole bundle again") from error
        return cls(split, data, *digests)

    def save(self, bundle: Path) -> None:
        """Write ``split.json`` and, unless nothing else is known, ``trained_on.json``."""
        self.split.to_json(bundle / SPLIT)
        if self.reports:
            text = json.dumps({name: " ".join(sorted(getattr(self, name))) for name in DIGESTS})
            atomic_write(bundle / TRAINED_ON, text + "\n")

    def including(self, other: TrainedOn | None) -> TrainedOn:
        """Return the record of a model that starts from another model, as from its encoder."""
        if other is None:
            return self
        both = {name: getattr(self, name) | getattr(other, name) for name in DIGESTS}
        return replace(self, **both)

    def recognised(
        self, studies: pd.DataFrame, part: Iterable[str], cache: str | Path | None = None
    ) -> list[str]:
        """Return the ids of the studies in `part` that the model was trained on.

        A study is recognised by the pixels of any of its images. An id alone tells little, since
        many collections count from 1: ids count where at least half of those that occur in both
        belong to the same reports. For a bundle without ``trained_on.json`` ids count where the
        data are the very ones it was trained on.
        """
        rows = studies[studies["study_id"].isin(list(part))]
        shared = [name for name in rows["study_id"] if _digest(name) in self.studies]
        if not self.reports:
            return shared if self.data == data_digest(studies) else []
        alike = sum(digest in self.reports for digest in _report_digests(rows))
        found = set(shared if 2 * alike >= len(shared) else [])
        present = with_images(rows)
        digests = image_digests(present["images"].explode(), cache)
        for name, images in zip(present["study_id"], present["images"]):
            if any(digests[path] in self.images for path in images):
                found.add(name)
        return sorted(found)


def record_training(
    studies: pd.DataFrame, split: Split, cache: str | Path | None = None
) -> TrainedOn:
    """Return what a model that is trained on a split of these studies keeps of them."""
    rows = studies[studies["study_id"].isin(split.train)]
    return TrainedOn(
        split,
        data_digest(studies),
        frozenset(map(_digest, rows["study_id"])),
        frozenset(_report_digests(rows)),
        frozenset(image_digests(with_images(rows)["images"].explode(), cache).values()),
    )


def choose_split(
    studies: pd.DataFrame,
    usable: pd.DataFrame,
    config: Config,
    split: Split | str | Path | None,
    models: Mapping[str, TrainedOn | None],
    part: str = "test",
    cache: str | Path | None = None,
) -> Split:
    """Return the split to use, on whose `part` the models may be tested.

    Parameters
    ----------
    studies, usable : pandas.DataFrame
        All studies of the source, and those that a new split is made of.
    config : Config
        Its fractions make a new split.
    split : Split, path or None
        A split, or its file. Without one it is that of a model that was trained on these very
        studies, or else the one that their source publishes, or else a new one.
    models, part, cache
        As :func:`check_unseen` takes them.

    Raises
    ------
    ConfigError
        A model was trained on studies of this part.
    DataError
        The split does not fit the studies, or its file is damaged.

    Warns
    -----
    SplitWarning
        The source's own split is used and not the fractions, which are other than the preset's;
        and whatever :func:`split_studies` warns of.
    """
    if split is not None:
        found = split if isinstance(split, Split) else Split.from_json(split)
        check_split(found, studies)
    else:
        digest = data_digest(studies)
        own = (model.split for model in models.values() if model and model.data == digest)
        found = next(own, None) or split_studies(usable, _fractions(config, usable))
    check_unseen(models, studies, found, part, cache)
    return found


def _fractions(config: Config, studies: pd.DataFrame) -> tuple[float, float, float] | None:
    """Return the fractions, None where only a preset names them and the source has a split."""
    usual = load_preset(config.name) if config.name in presets() else Config()
    if names_split(studies) and config.fractions == usual.fractions:
        return None
    return config.fractions


def check_unseen(
    models: Mapping[str, TrainedOn | None],
    studies: pd.DataFrame,
    split: Split,
    part: str,
    cache: str | Path | None = None,
) -> None:
    """Refuse to test models on studies that they were trained on.

    A model's own split of the very data that it was trained on is not looked into again.

    Parameters
    ----------
    models : mapping of str to TrainedOn or None
        By name, what each was trained on; None where that is unknown.
    studies : pandas.DataFrame
        All studies of the source.
    part : {"train", "val", "test"}
        What the models are to be tested on; nothing is refused for ``train``.
    cache : path, optional
        Folder in which digests of images are kept between runs; the usual one where absent.

    Raises
    ------
    ConfigError
        A model was trained on studies of this part.
    """
    for name, model in models.items() if part != "train" else ():
        if model is None or (model.split == split and model.data == data_digest(studies)):
            continue
        if found := model.recognised(studies, split.parts[part], cache):
            raise ConfigError(
                f"{name}: was trained on {len(found)} of the {part} studies, such as {found[0]}; "
                "use the whole data with the split it was trained with (--split split.json of its "
                "bundle), or leave these studies out"
            )


def image_digests(paths: Iterable[str], cache: str | Path | None = None) -> dict[str, str]:
    """Return, by path, a digest of each image's pixels, whatever the file's name or compression.

    It is the beginning of the SHA-256 of the decoded image, reduced to 64 x 64 pixels: the digest
    of a whole radiograph takes longer than to decode it, and tells no more.
    """
    paths = list(paths)
    digests = ArrayCache(cache, {"digest": "sha256", "size": SIDE, "resize": "area"})
    digests.fill(paths, _pixel_digests, "compare images")
    return {path: _text(digests[path].tobytes()) for path in paths}


def _pixel_digests(paths: list[str]) -> np.ndarray[Any, Any]:
    pixels = np.rint(read_images(paths, SIDE) * 65535).astype("<u2")
    rows = [hashlib.sha256(image.tobytes()).digest()[:LENGTH] for image in pixels]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, LENGTH)


def _report_digests(studies: pd.DataFrame) -> list[str]:
    columns = (studies[name] for name in ("study_id", "findings", "impression"))
    return [_digest(row) for row in zip(*columns, strict=True)]


def _digest(content: Any) -> str:
    return _text(hashlib.sha256(json.dumps(content).encode()).digest()[:LENGTH])


def _text(digest: bytes) -> str:
    return base64.urlsafe_b64encode(digest).decode()
