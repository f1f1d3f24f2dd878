"""Marks in DICOM files, in names of files and in forms reach no log, metric, error, cache or table."""

import io
import json
import traceback
import warnings
import zipfile

import numpy as np
import pytest

from xray_captioning.cli import main
from xray_captioning.data.images import decode_image, read_image
from xray_captioning.data.sources.reading import read_studies
from xray_captioning.errors import ImageError

pytest.importorskip("pydicom")
from tests.data.dicom.test_dicom import dicom, with_bytes

ELEMENTS = {
    "PatientName": "Quux^Zelda",
    "PatientID": "MRN-4711-ZZ",
    "PatientBirthDate": "19481123",
    "AccessionNumber": "ACC-ZZ-7",
    "ReferringPhysicianName": "Zorro^Zuse",
    "InstitutionName": "Hospital Zebra",
    "StudyDate": "20031207",
    "StudyDescription": "zz-described",
    "PatientComments": "zz-commented",
}
MARKS = [part.encode() for text in ELEMENTS.values() for part in text.split("^")]
FILE = b"told-by-a-file-name"  # in the names of files, which a command repeats and a server does not
GREY = np.add.outer(np.arange(90) * 3, np.arange(80) * 5).astype(np.uint8)


def marked(number=1, **elements):
    """Return a DICOM file full of marks."""
    uids = {"StudyInstanceUID": f"1.2.826.{number}", "SOPInstanceUID": f"1.2.826.{number}.1", "Modality": "DX"}
    return dicom(GREY, **ELEMENTS, **uids, **elements)


def in_a_number(number=3):
    """Return a file whose window has a name where a number belongs."""
    return with_bytes(marked(number, WindowCenter=12345678, WindowWidth=9), b"12345678", b"Quux^Zel")


FILES = {
    "good": marked(1),
    "refused": marked(2, NumberOfFrames=3),
    "damaged": marked(3)[:-1000],
    "cut in the head": marked(3)[:500],
    "a name for a number": in_a_number(),
    "no image": marked(4, PixelData=b""),
}


def free_of(told, *more, where=""):
    """Assert that nothing of a file is in bytes or text."""
    data = told if isinstance(told, bytes) else told.encode()
    assert [mark for mark in (*MARKS, b"Quux^Zel", *more) if mark.lower() in data.lower()] == [], where


@pytest.fixture
def folder(tmp_path):
    """Write all files, with a mark in each name, below a folder of studies."""
    place = tmp_path / "given"
    place.mkdir()
    for number, (name, data) in enumerate(FILES.items()):
        (place / f"{FILE.decode()}-{number}-{name.replace(' ', '-')}.dcm").write_bytes(data)
    return place


def everything_below(place):
    """Return names and contents of all files, what is packed unpacked, too."""
    found = b""
    for path in sorted(place.rglob("*")):
        found += f"{path.relative_to(place)}\n".encode()
        if path.is_file():
            found += path.read_bytes()
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                found += b"".join(archive.read(name) for name in archive.namelist())
    return found


def test_the_marks_are_in_the_files():
    assert all(mark in FILES["good"] for mark in MARKS)


@pytest.mark.parametrize("kind", list(FILES)[1:])
def test_errors_and_their_tracebacks(kind, caplog, capfd):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with pytest.raises(ImageError) as caught:
            decode_image(FILES[kind], "image 1")
    free_of("".join(traceback.format_exception(caught.value)))
    free_of(" ".join(str(one.message) for one in told) + caplog.text + "".join(capfd.readouterr()))


@pytest.fixture
def api():
    for package in ("flask", "uvicorn", "prometheus_client"):
        pytest.importorskip(package)
    from tests.serving import parts

    return parts


def test_the_api(api, capfd, caplog):
    from xray_captioning.serving import Settings

    toy = api.Toy()
    client = api.toy_app(Settings(batch=1), toy).test_client()
    heard = b""

    def send(**data):
        answer = client.post("/v1/captions", data=data, headers={"User-Agent": "Quux", "Referer": "http://x/Zelda"})
        return answer.status_code, answer.data + str(answer.headers).encode()

    expected = dict.fromkeys(FILES, 422) | {"good": 200}
    for kind, data in FILES.items():
        status, told = send(images=[(io.BytesIO(data), f"{FILE.decode()}.dcm", "Quux/Zelda")])
        heard += told
        assert status == expected[kind], kind
    for fields in ({"Quux": "Zelda"}, {"beam_size": "Quux"}, {"views": "Zelda"}, {"threshold": "MRN-4711-ZZ"}):
        status, told = send(images=[(io.BytesIO(FILES["good"]), "a.dcm")], **fields)
        heard += told
        assert status in (400, 422)
    heard += client.get("/Quux/Zelda?MRN-4711-ZZ").data
    toy.features = lambda studies, resized: (_ for _ in ()).throw(ValueError(f"Quux {FILE.decode()}"))
    status, told = send(images=[(io.BytesIO(FILES["good"]), "a.dcm")])
    assert status == 500
    logged = capfd.readouterr()
    heard += told + client.get("/metrics").data
    free_of(heard + (logged.err + logged.out + caplog.text).encode(), FILE)
    assert '"error": "ValueError"' in logged.err


def test_the_app(capfd):
    from xray_captioning.serving import app_parts as parts

    study = parts.study_of([FILES["good"]])
    free_of(f"{study.about} {parts.digest([FILES['good']])}")
    for kind in list(FILES)[1:]:
        with pytest.raises(ImageError, match=r"^image 1: ") as caught:
            parts.study_of([FILES[kind]])
        free_of(str(caught.value), FILE)
    free_of("".join(capfd.readouterr()), FILE)


def test_caption(folder, tmp_path, capfd, caplog):
    good, *others = sorted(map(str, folder.iterdir()))
    assert main(["caption", good]) == 0
    for other in others:
        assert main(["caption", other]) == 2
    told = capfd.readouterr()
    free_of(told.out + told.err + caplog.text)
    assert f"{good}\t" in told.out  # a path is repeated as it was given, there and in errors
    assert others[0] in told.err


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_tables_hold_paths_and_nothing_else(folder, tmp_path, capfd, suffix):
    out = tmp_path / "out" / f"table{suffix}"
    assert main(["caption", str(folder), "--out", str(out)]) == 1  # some cannot be read
    written = everything_below(out.parent)
    free_of(written + "".join(capfd.readouterr()).encode())
    assert written.count(FILE) > len(FILES)
    if suffix == ".jsonl":
        for row in map(json.loads, out.read_text().splitlines()):
            said = {name: value for name, value in row.items() if name not in ("study", "images", "error")}
            free_of(json.dumps(said), FILE)
            assert row["error"] is None or row["error"].startswith(row["images"][0])


def test_studies_and_what_prepare_writes(folder, tmp_path, capfd):
    for path in folder.glob("*cut*"):
        path.unlink()  # of no study, which ends the command
    for path in folder.glob("*damaged*"):
        path.unlink()  # the same study as the next
    assert main(["prepare", str(folder), "--out", str(tmp_path / "out")]) == 0
    free_of(everything_below(tmp_path / "out") + "".join(capfd.readouterr()).encode())
    free_of(read_studies(folder).drop(columns="images").to_json(), FILE)


def test_features_and_caches(folder, tmp_path, capfd, eagerly):
    from xray_captioning.data.features import ArrayCache

    for path in folder.iterdir():
        if "good" not in path.name:
            path.unlink()
    [good] = map(str, folder.iterdir())
    cache = ArrayCache(tmp_path / "cache", {"pixels": 32})
    cache.fill([good], lambda paths: np.stack([read_image(path, 32) for path in paths]))
    free_of(everything_below(tmp_path / "cache"), FILE)
    out = tmp_path / "out" / "features.npz"
    asked = ["--encoder", "phantom_cnn", "--weights", "random", "--set", "image.size=32", "--out", str(out)]
    assert main(["encode", "--data", str(folder), *asked]) == 0
    free_of(everything_below(out.parent) + "".join(capfd.readouterr()).encode())
