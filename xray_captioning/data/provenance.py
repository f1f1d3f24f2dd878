"""Where studies come from, and which studies a model was trained on, to be tested on none of these. Beside its
``split.json`` a bundle keeps ``trained_on.json``: digests by which its training studies are recognised, also as a
subset, with other reports, names or formats, and their patients, whose radiographs resemble each other so much that
they identify the patient (Packhaeuser et al., Scientific Reports 12, 2022, arXiv:2103.08562). The digests tell
nobody what a report says or an image shows.
"""

import base64
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from msgspec import Struct, convert

from xray_captioning.config import Config, load_preset, presets
from xray_captioning.data import features, resizing
from xray_captioning.data.images import read_image
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.data.splits import Split, check_split, data_digest, group_ids, split_studies, warn_of_split
from xray_captioning.data.stores import local
from xray_captioning.data.studies import Studies, checked_table, with_images
from xray_captioning.errors import ConfigError
from xray_captioning.files import atomic_write, read_json
from xray_captioning.hub.repositories import is_hub, origins

SPLIT, TRAINED_ON = "split.json", "trained_on.json"
DIGESTS = ("studies", "patients", "reports", "images")
VERSION = 2  # of what the digests are made of; those of images differ in the first
LENGTH = 6  # bytes: of a million images one in 280 million others is taken for one of them
SIDE, LEVELS = 16, 64  # what of an image is compared: means of 16 x 16 fields, in 64 steps
BLANK = bytes(LENGTH)  # in place of the digest of an image that shows nothing
LEAST_RANGE = 0.01  # of an image's fields, in [0, 1]; it is blank below
# How much brighter than its neighbour a field is, of the range; where a rounding turns one, the others stay.
RISES = (0.008, 0.016, 0.024, 0.032)
FEW_RISES = 32  # of 480; radiographs have a hundred. So few are easily those of another image, too
# An image of more training studies is a placeholder; some collections name one for each of five captions.
MOST_STUDIES = 10
ALIKE = 0.25  # see `TrainedOn.recognised`
Models = Mapping[str, "TrainedOn | None"]  # by name; None where nothing is known
UNSEEN = "their scores are not those of unseen studies"
PHANTOM_README = "Synthetic chest radiographs and reports, made by xray_captioning."
PHANTOM_NOTICE = "trained on synthetic phantoms only; it knows nothing of real radiographs and is here to show "
PHANTOM_NOTICE += "the tool at work"


def open_studies(studies: Any, split: Any = None, need_images: bool = True) -> tuple[Studies, Any, Split | None]:
    """Return studies given, or read, or what a function returns, with what `describe_data` says, and `open_split`."""
    split = open_split(split)  # first, because it is read sooner
    if isinstance(studies, (str, os.PathLike)):
        return read_studies(studies, need_images=need_images), describe_data(studies), split
    return checked_table(studies() if callable(studies) else studies), {}, split


def open_split(split: Any) -> Split | None:
    """Return a split, or what its file holds, None where none is given."""
    return split if split is None or isinstance(split, Split) else Split.from_json(local(split))


def describe_data(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the name of the source that a model card tells, and for phantoms a notice."""
    path = local(path) if is_hub(path) else Path(path)
    name = origins.get(path.absolute()) or path.resolve().name
    return {"source": name} | ({"notice": PHANTOM_NOTICE} if is_phantom(path) else {})


def is_phantom(folder: Path) -> bool:
    """Whether a folder was written by :func:`xray_captioning.write_phantoms`."""
    readme = folder / "README.txt"
    return readme.is_file() and readme.read_text("utf-8", "replace").startswith(PHANTOM_README)


class _Digests(Struct):
    """What ``trained_on.json`` holds, each field's joined by blanks."""

    studies: str
    reports: str
    images: str
    patients: str = ""
    version: int = 1

    def sets(self) -> dict[str, frozenset[str]]:
        found = {name: frozenset(getattr(self, name).split()) for name in DIGESTS}
        return found if self.version == VERSION else {**found, "images": frozenset()}


@dataclass(frozen=True)
class TrainedOn:
    """What a model was trained on; digests are empty where a bundle is older than its record."""

    split: Split  # which studies trained it, chose it and were left to test it
    data: str | None  # data_digest of all these studies
    studies: frozenset[str]  # digests of the ids of the studies that trained it or its encoder
    patients: frozenset[str] = frozenset()  # of their patients' ids, where these are known
    reports: frozenset[str] = frozenset()  # of the studies' ids with findings and impression
    images: frozenset[str] = frozenset()  # of what their images show

    @classmethod
    def load(cls, bundle: Path) -> Self | None:
        """Read what a bundle says of its training; None where it says nothing."""
        if not (bundle / SPLIT).is_file():
            return None
        advice = "copy the whole bundle again"
        data = read_json(bundle / "captioner.json", advice)["about"].get("data", {}).get("digest")
        split = Split.from_json(bundle / SPLIT)
        if not (bundle / TRAINED_ON).is_file():
            return cls(split, data, frozenset(map(_digest, split.train)))
        return cls(split, data, **read_json(bundle / TRAINED_ON, advice, of=_Digests).sets())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Make what :meth:`to_dict` returned."""
        return cls(convert(values["split"], Split), values["data"], **convert(values, _Digests).sets())

    def save(self, bundle: Path) -> None:
        """Write ``split.json`` and, unless nothing else is known, ``trained_on.json``."""
        self.split.to_json(bundle / SPLIT)
        if self.reports:
            atomic_write(bundle / TRAINED_ON, json.dumps(self._joined()) + "\n")

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values, which the ``.keras`` file of a model holds."""
        parts = {name: list(ids) for name, ids in self.split.parts.items()}
        return {"split": parts, "data": self.data, **self._joined()}

    def _joined(self) -> dict[str, Any]:
        return {"version": VERSION, **{name: " ".join(sorted(getattr(self, name))) for name in DIGESTS}}

    def including(self, other: Self | None) -> Self:
        """Return the record of a model that starts from another model, as from its encoder."""
        if other is None:
            return self
        return replace(self, **{name: getattr(self, name) | getattr(other, name) for name in DIGESTS})

    def recognised(self, studies: Studies, part: Iterable[str], cache: str | Path | None = None) -> list[str]:
        """Return the ids of the studies in `part` that the model was trained on, as images tell."""
        # Ids, and patients, count where a quarter of those in both belong to the same images or, beyond chance, the
        # same reports, since many collections count from 1; without ``trained_on.json`` where the data are the very
        # ones it was trained on.
        rows = studies[studies["study_id"].isin(list(part))]
        shared = self._named(rows)
        if not self.reports:
            return sorted(shared) if self.data == data_digest(studies) else []
        found = self.shown(studies, part, cache)
        if self._ids_tell(rows, found):
            found |= shared
        return sorted(found | (self._of_patients(rows) if self._ids_tell(studies, set()) else set()))

    def _ids_tell(self, rows: Studies, shown: set[str]) -> bool:
        """Whether equal ids are those of the same studies; `shown` are known by their images."""
        # Reports that agree by chance, the square of how often one occurs, are left out of what agrees and what could.
        shared = rows[rows["study_id"].isin(self._named(rows))]
        ids, texts = list(shared["study_id"]), list(zip(shared["findings"], shared["impression"]))
        same = {name for name, report in zip(ids, _report_digests(shared)) if report in self.reports} - shown
        number, agreeing = Counter(texts), Counter(text for text, name in zip(texts, ids) if name in same)
        found, possible = float(len(shown & set(ids))), float(len(ids))
        for text, count in agreeing.items():
            by_chance = number[text] * (number[text] - 1) / max(len(ids) - 1, 1)
            found += max(count - by_chance, 0)
            possible -= by_chance
        return found > 0 and found >= ALIKE * possible

    def _named(self, rows: Studies) -> set[str]:
        return {name for name in rows["study_id"] if _digest(name) in self.studies}

    def _of_patients(self, rows: Studies) -> set[str]:
        return {name for name, patient in zip(rows["study_id"], group_ids(rows)) if _digest(patient) in self.patients}

    def shown(self, studies: Studies, part: Iterable[str], cache: str | Path | None = None) -> set[str]:
        """Return the ids of the studies in `part` that have an image of a training study."""
        present = with_images(studies[studies["study_id"].isin(list(part))])
        return {name for name, found in zip(present["study_id"], _shown_by(present, cache)) if found & self.images}


def warn_of_unknown(models: Models) -> None:
    """Warn of models of which nobody knows what they were trained on."""
    if names := [name for name, model in models.items() if model is None]:
        what = "nothing is known of the studies it was trained on"
        warn_of_split(f"{', '.join(names)}: {what}; if some of them are among these, {UNSEEN}")


def record_training(studies: Studies, split: Split, cache: str | Path | None = None) -> TrainedOn:
    """Return what a model that is trained on a split of these studies keeps of them."""
    rows = studies[studies["study_id"].isin(split.train)]
    patients = set(group_ids(rows)) - set(rows["study_id"])
    times = Counter(digest for found in _shown_by(with_images(rows), cache) for digest in found)
    images = (digest for digest, count in times.items() if count <= MOST_STUDIES)
    digests = map(_digest, rows["study_id"]), map(_digest, patients), _report_digests(rows), images
    return TrainedOn(split, data_digest(studies), *map(frozenset, digests))


def choose_split(
    studies: Studies,
    usable: Studies,
    config: Config,
    split: Split | str | Path | None,
    models: Models,
    part: str = "test",
    cache: str | Path | None = None,
) -> Split:
    """Return the split to use, on whose `part` the models may be tested."""
    # It is the given one, that of a model trained on these very studies, the published one, or one of the `usable`.
    if found := open_split(split):
        check_split(found, studies)
    else:
        digest = data_digest(studies) if any(models.values()) else None
        own = (model.split for model in models.values() if model and model.data == digest)
        # Fractions that only a preset names give way to a split of the source.
        usual = load_preset(config.name) if config.name in presets() else Config()
        given = config.fractions != usual.fractions or not usable["split"].notna().any()
        found = next(own, None) or split_studies(usable, config.fractions if given else None)
    check_unseen(models, studies, found, part, cache)
    return found


def check_unseen(models: Models, studies: Studies, split: Split, part: str, cache: str | Path | None = None) -> None:
    """Refuse to test models on studies that they, by name, were trained on, or others of their patients."""
    # `studies` are all of the source, and `cache` keeps digests of images between runs. The part ``train`` is free,
    # and so is a model's own split where nothing else trained its encoder; a SplitWarning tells if an image is in
    # two of its parts, or if ids alone tell.
    for name, model in models.items() if part != "train" else ():
        if model is None:
            continue
        own = model.split == split and model.data == data_digest(studies)
        if own and model.studies == set(map(_digest, split.train)):  # nothing else trained it
            if found := sorted(model.shown(studies, split.parts[part], cache)):
                what = f"{len(found)} of the {part} studies, such as {found[0]}, have an image of a training study"
                warn_of_split(f"{name}: {what}; {UNSEEN} (keep one of each in the data, and train anew)")
            continue
        if found := model.recognised(studies, split.parts[part], cache):
            what = f"{len(found)} of the {part} studies, such as {found[0]}, or on others of their patients"
            advice = "use the whole data with the split it was trained with (--split split.json of its bundle)"
            raise ConfigError(f"{name}: was trained on {what}; {advice}, or leave these studies out")
        rows = studies[studies["study_id"].isin(split.parts[part])]
        if unclear := model._of_patients(rows) if model.reports else model._named(rows):
            what = f"was trained on studies or patients with the ids of {len(unclear)} of the {part} studies"
            warn_of_split(f"{name}: {what}, and nothing else is known of them; if they are the same, {UNSEEN}")


def _shown_by(studies: Studies, cache: str | Path | None) -> list[set[str]]:
    """Return digests of what each study's images show, whatever the files' names and formats, none of blank ones."""
    # They are of 16 x 16 means in coarse steps, beside which float32's rounding is small, and of where a field is
    # brighter than the one before or above, which nearly always withstands JPEG, 12 bits cut to 8 and a smaller size.
    digests = features.ArrayCache(cache, {"digest": "fields, rises", "side": SIDE, "levels": LEVELS, "rises": RISES})
    digests.fill(chain.from_iterable(studies["images"]), _shown_in, "compare images")
    found = [{bytes(one) for path in row for one in digests[path]} for row in studies["images"]]
    return [set(map(_text, study - {BLANK})) for study in found]


def _shown_in(paths: list[str]) -> np.ndarray[Any, Any]:
    rows = b"".join(b"".join(_image_digests(read_image(path, None))) for path in paths)
    return np.frombuffer(rows, np.uint8).reshape(-1, 1 + len(RISES), LENGTH)


def _image_digests(image: features.Array) -> list[bytes]:
    fields = resizing.opencv().resize(image, (SIDE, SIDE), interpolation=resizing.opencv().INTER_AREA).mean(axis=-1)
    least, most = fields.min(), fields.max()
    if most - least < LEAST_RANGE:
        return [BLANK] * (1 + len(RISES))
    fields = (fields - least) / (most - least)
    rises = np.concatenate([np.diff(fields, axis=axis).ravel() for axis in (0, 1)])
    # Halves of a step are frequent among means of integers, and rounding would be by chance.
    patterns = [np.floor(fields * LEVELS + 0.3819).astype("uint8"), *(rises > slight for slight in RISES)]
    digests = (hashlib.sha256(pattern.tobytes()).digest()[:LENGTH] for pattern in patterns)
    return [digest if pattern.sum() > FEW_RISES else BLANK for digest, pattern in zip(digests, patterns)]


def _report_digests(studies: Studies) -> list[str]:
    return list(map(_digest, zip(studies["study_id"], studies["findings"], studies["impression"])))


def _digest(content: Any) -> str:
    return _text(hashlib.sha256(json.dumps(content).encode()).digest()[:LENGTH])


def _text(digest: bytes) -> str:
    """Return bytes as 8 letters, digits, hyphens or underscores."""
    return base64.urlsafe_b64encode(digest).decode()
