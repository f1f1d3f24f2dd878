"""The reference text of each study, the texts a model is trained to write and may read, and its images."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xray_captioning.config import Config
from xray_captioning.data import feature_files, features
from xray_captioning.data.images import known_views
from xray_captioning.data.splits import group_ids
from xray_captioning.data.studies import UNKNOWN, Context, Studies, select_images, with_images
from xray_captioning.errors import DataError
from xray_captioning.files import is_missing
from xray_captioning.text.cleaning import clean
from xray_captioning.text.token_ids import TokenIds

_WORD = re.compile("[a-wyzA-WYZ]{4}")
_DAYS = 10**7  # from here on numbers are days, such as 20241231
_DATE = re.compile(r"(\d{1,8}|\d{4}-\d\d-\d\d)(\.0|[T ].*)?")  # a number, or a day; the time of day does not count


def usable_studies(
    studies: Studies, config: Config, given: feature_files.StudyFeatures | None = None, images: bool | None = None
) -> Studies:
    """Return the studies that have an image and, after cleaning, a text; none is a DataError."""
    # With features that are given, of each, they need no `images` unless these are asked for, too.
    studies = with_priors(studies, config)
    images = given is None if images is None else images
    present = with_images(studies) if images else studies
    present = present if given is None else given.there(present)
    # Of a word of four such letters something is left by every cleaning, which takes long of very many texts.
    there = (_WORD.search(text) or clean(text, config.text.cleaning) for text in section_texts(present, config))
    usable = present[list(map(bool, there))].reset_index(drop=True)
    if usable.empty:
        what = f"no study has {'both an image on disk and ' if images else ''}text in its {config.text.section}"
        raise DataError(f"{what}; check the data, or choose another section with --set text.section=...")
    if given is not None:
        given.of(usable["study_id"])
    return usable


def reference_texts(studies: Studies, config: Config) -> list[str]:
    """Return each study's section, cleaned as the configuration says; empty where absent."""
    return list(cleaned_texts(studies, config))


def cleaned_texts(studies: Studies, config: Config) -> Iterator[str]:
    """Yield what `reference_texts` returns."""
    return (clean(text, config.text.cleaning) for text in section_texts(studies, config))


def section_texts(studies: Studies, config: Config) -> list[str]:
    """Return each study's section, '' where absent; a report is both, or the text that is both."""
    columns = ["findings", "impression"] if config.text.section == "report" else [config.text.section]
    return [" ".join(dict.fromkeys(filter(None, row))) for row in zip(*(studies[column] for column in columns))]


def with_priors(studies: Studies, config: Config) -> Studies:
    """Fill the column ``prior``, where a model reads it and it is empty: the section of the patient's study before."""
    if "prior" not in config.text.context:
        return studies
    texts, prior, last = section_texts(studies, config), _column(studies, "prior"), dict[str, Any]()
    # Of the same part, too: published splits may tear a patient, and training reads no text of a test study.
    whose = map("{} {}".format, group_ids(studies), _column(studies, "split"))
    rows = zip(whose, map(_day, _column(studies, "date"), studies["study_id"]), range(len(texts)))
    for patient, day, row in sorted(row for row in rows if row[1] >= 0):
        seen, text, before = last.get(patient, (-1, None, None))
        if 0 <= seen < _DAYS <= day:
            what = f"study {studies['study_id'].iloc[row]!r}: its date is a day, another one's of its patient a number"
            raise DataError(f"{what}; write all alike, as 20241231 or counted")
        before = text if day > seen else before  # of two on one day neither is before the other
        prior[row], last[patient] = prior[row] or before, (day, texts[row] or text, before)
    return studies.assign(prior=np.array(prior, object))


def _day(date: str | None, study: str) -> int:
    """Return a number that grows with a date, -1 without one; the date, a patient's, is in no message."""
    if date is None:
        return -1
    if not (found := _DATE.fullmatch(date)):
        raise DataError(f"study {study!r}: its date does not tell an order; write 2024-12-31, 20241231 or a number")
    return int(found[1].replace("-", ""))


def _column(studies: Studies, name: str) -> list[str | None]:
    given = studies[name] if name in studies else [None] * len(studies)
    return [None if is_missing(value) else str(value) for value in given]


def contexts(studies: Studies, config: Config) -> list[Context] | None:
    """Return what a model reads of each study beside its images, by kind; None where it reads nothing."""
    columns = {name: _column(studies, name) for name in config.text.context}
    return [dict(zip(columns, row)) for row in zip(*columns.values())] if columns else None


def context_texts(given: Sequence[Context], config: Config) -> list[str]:
    """Return the texts of studies, kind by kind, cleaned; '' where there is none."""
    texts = [study.get(name) or "" for study in given for name in config.text.context]
    return [clean(text, config.text.cleaning) if text else "" for text in texts]


def context_tokens(given: Sequence[Context], tokenizer: TokenIds, config: Config) -> features.Array:
    """Return the token ids of studies' texts, (studies, kinds, words), int32, zeros where there is none."""
    texts, most = context_texts(given, config), config.text.maximum_length
    rows = tokenizer.encode_batch(texts, most)
    rows[[not text for text in texts]] = 0
    return rows.reshape(len(given), -1, most)


def training_texts(studies: Studies, config: Config) -> list[str]:
    """Return what a model learns to write: the references, after their views where asked for."""
    texts = reference_texts(studies, config)
    if not config.text.view_prefix:
        return texts
    views = [dict(zip(*row)) for row in zip(studies["images"], studies["views"])]
    rows = zip(study_images(studies, config), views, texts)
    return [f"{_view_sentence([names[i] for i in seen if i])} {text}" for seen, names, text in rows]


def scored_text(words: Sequence[str], config: Config) -> str:
    """Return the words of a caption that are scored: without the sentence on its views."""
    if config.text.view_prefix and "." in words:
        words = words[list(words).index(".") + 1 :]
    return " ".join(words)


def _view_sentence(views: Sequence[str]) -> str:
    if len(views) == 1:
        return f"{'one' if views[0] == UNKNOWN else views[0]} view ."
    return "two views ." if len(views) == 2 else "several views ."


def study_images(studies: Studies, config: Config) -> list[list[str | None]]:
    """Return images in the model's places, None where a view is missing; a DICOM file may know what the table lacks."""
    image = config.image
    return [
        select_images(images, known_views(images, views), image.views, image.repeat_single_view)
        for images, views in zip(studies["images"], studies["views"])
    ]
