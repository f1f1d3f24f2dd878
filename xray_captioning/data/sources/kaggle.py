"""The Kaggle edition of the Indiana University collection (see `openi`): two CSV tables, PNGs."""

from pathlib import Path

from xray_captioning.data.sources.cells import match_ids
from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.data.sources.source import Source, sections
from xray_captioning.data.studies import Study, text_or_none, unique_problems
from xray_captioning.data.table import Row, read_table
from xray_captioning.data.views import named_view
from xray_captioning.errors import DataError

REPORTS, PROJECTIONS = TABLES = ("indiana_reports.csv", "indiana_projections.csv")
IMAGE_FOLDER = "images/images_normalized"


def read(path: Path, finder: ImageFinder) -> list[Study]:
    """Read the studies of a folder that holds both tables.

    The path may also be one of the two tables. An image whose study has no report is kept, as a
    study without text. Images are found under their Open-i names, too. Ids that pandas rewrote in
    one of the tables, such as '7.0' for '7', mean the study of that number.
    """
    folder = path if path.is_dir() else path.parent
    reports = read_table(folder / REPORTS, ("uid", "findings", "impression"))
    if unnamed := next((row for row in reports if not row["uid"].strip()), None):
        raise DataError(f"{unnamed.place}: the uid is empty; fill it in or remove the row")
    projections: dict[str, dict[str, str]] = {}
    for row in read_table(folder / PROJECTIONS, ("uid", "filename", "projection")):
        names = projections.setdefault(row["uid"].strip(), {})
        names[row["filename"].strip()] = named_view(row["projection"])
    described = dict.fromkeys(row["uid"].strip() for row in reports)
    same = match_ids(described, projections, str(folder / PROJECTIONS))
    images: dict[str, dict[str, str]] = {}
    for uid, views in projections.items():
        images.setdefault(same.get(uid, uid), {}).update(views)
    bare = [Row(uid=uid) for uid in images if uid not in described]
    return [_study(row, images, finder) for row in [*reports, *bare]]


def _study(row: Row, projections: dict[str, dict[str, str]], finder: ImageFinder) -> Study:
    study_id = row["uid"].strip()
    views = projections.get(study_id, {})
    return Study(
        study_id=study_id,
        images=[finder.by_key(name, IMAGE_FOLDER) for name in views],
        views=list(views.values()),
        problems=unique_problems(row.get("problems", "").split(";")),
        mesh=text_or_none(row.get("mesh")),
        **sections(row),
    )


SOURCE = Source("kaggle", TABLES, read, needs_all=True, reads_folder=True)
