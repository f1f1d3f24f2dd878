"""The reference text of each study, the text a model is trained to write, and its images."""

import re
from collections.abc import Iterator, Sequence

from xray_captioning.config import Config
from xray_captioning.data.feature_files import StudyFeatures
from xray_captioning.data.images import known_views
from xray_captioning.data.studies import UNKNOWN, Studies, select_images, with_images
from xray_captioning.errors import DataError
from xray_captioning.text.cleaning import clean

_WORD = re.compile("[a-wyzA-WYZ]{4}")


def usable_studies(
    studies: Studies, config: Config, given: StudyFeatures | None = None, images: bool | None = None
) -> Studies:
    """Return the studies that have an image and, after cleaning, a text; none is a DataError. Where features are
    given they need no `images` unless these are asked for, too; but of each of them there must be features.
    """
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
    section = config.text.section
    columns = ["findings", "impression"] if section == "report" else [section]
    rows = zip(*(studies[column] for column in columns))
    return [" ".join(dict.fromkeys(filter(None, row))) for row in rows]


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
