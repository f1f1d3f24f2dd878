"""An image is the one that was named, wherever it lies; never another."""

import os

import pytest

from xray_captioning.data.sources.lookup import ImageFinder
from xray_captioning.errors import DataError


def files(folder, *paths):
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"")
    return ImageFinder(folder)


def found(folder, finder, name):
    path = finder.by_path(name)
    return path and os.path.relpath(path, folder).replace(os.sep, "/")


@pytest.mark.parametrize(
    "name",
    [
        "p1/s1/a.png",
        r"p1\s1\a.png",
        r"D:\cxr\p1\s1\a.png",
        r"\\server\share\p1\s1\a.png",
        "/data/me/cxr/p1/s1/a.png",
        "./p1//s1/../s1/a.png",
        "images/p1/s1/a.png",
        "P1/S1/A.PNG",
        "p1/s1/a",
        "p1/s1/a.dcm",
        "p1/s1/a.dcm.jpg",
    ],
)
@pytest.mark.parametrize("place", ["", "images/", "cxr-2.0/files/"])
def test_every_spelling_of_a_path_is_the_image(tmp_path, name, place):
    others = (f"{place}p2/s1/a.png", f"{place}p1/s2/a.png", f"{place}p2/s9/b.png")
    finder = files(tmp_path, f"{place}p1/s1/a.png", *others)
    assert found(tmp_path, finder, name) == f"{place}p1/s1/a.png"


@pytest.mark.parametrize("name", ["p3/s1/a.png", "/data/me/p1/s9/a.png", r"p2\a.png", "p9/b.png"])
def test_an_image_of_another_folder_than_is_named_is_never_taken(tmp_path, name):
    finder = files(tmp_path, "images/p1/s1/a.png", "images/p2/s1/a.png", "images/p2/s1/b.png")
    assert finder.by_path(name) is None
    assert finder.find(name) == str(tmp_path / "images" / name.replace("\\", "/"))


@pytest.mark.parametrize(
    ("there", "named"),
    [
        (["patient1/a.png", "patient1/b.png"], "patient2/b.png"),
        (["train/1.png", "train/2.png"], "test/2.png"),
        (["train/1.png", "train/2.png"], "/data/me/valid/2.png"),
        (["p10/s1/a.png", "p10/s2/a.png"], "files/p11/s1/a.png"),
        (["train/patient00003/study1/view1.jpg"], "CheXpert-v1.0/train/patient00001/study1/view1.jpg"),
        (["2019/1.png", "2019/2.png"], r"D:\\films\\2020\\1.png"),
    ],
)
def test_the_only_folder_that_is_there_stands_for_none_of_its_kind(tmp_path, there, named):
    """As where one patient's images, or one part's, were copied so far."""
    finder = files(tmp_path, *there)
    assert finder.by_path(named) is None
    assert all(found(tmp_path, finder, f"elsewhere/{path}") == path for path in there)


@pytest.mark.parametrize("named", ["validate/1.png", "p007/validation/1.png", "images/png_all/1.png", "x2/scans/1.png"])
def test_other_folders_may_be_called_otherwise(tmp_path, named):
    finder = files(tmp_path, "p7/valid/1.png", "p7/valid/2.png")
    assert found(tmp_path, finder, named) == "p7/valid/1.png"


def test_a_name_that_fits_two_files_is_an_error_that_names_both(tmp_path):
    finder = files(tmp_path, "p/scan.jpg", "q/scan.jpg", "IMG.PNG", "img.png")
    for name, both in (("scan", r"p/scan\.jpg and .*q/scan\.jpg"), ("Img.png", "IMG.PNG and .*img.png")):
        with pytest.raises(DataError, match=f"image '{name}': .*{both} both fit; name its folder"):
            finder.find(name)
    assert found(tmp_path, finder, "q/scan.png") == "q/scan.jpg"
    assert found(tmp_path, finder, "img.png") == "img.png"
    assert found(tmp_path, finder, "IMG.PNG") == "IMG.PNG"


def test_one_file_is_not_given_for_two_folders(tmp_path):
    """A folder into which images of equal names were copied one over the other."""
    finder = files(tmp_path, "images/view1.jpg")
    assert found(tmp_path, finder, "p1/view1.jpg") == "images/view1.jpg"
    assert found(tmp_path, finder, "/data/p1/view1.jpg") == "images/view1.jpg"
    with pytest.raises(DataError, match=r"the only image for both 'p1/view1.jpg' and 'p2/view1"):
        finder.find("p2/view1.jpg")


def test_what_fits_best_is_taken(tmp_path):
    finder = files(tmp_path, "a.png", "deep/p1/a.jpg", "x/b.png", "y/b.jpg", "c.dcm", "c.dcm.png")
    assert found(tmp_path, finder, "p1/a.png") == "deep/p1/a.jpg"  # folders before suffixes
    assert found(tmp_path, finder, "b.png") == "x/b.png"
    assert found(tmp_path, finder, "c") == "c.dcm.png"
    assert found(tmp_path, finder, "c.dcm") == "c.dcm"


def test_a_folder_of_images_comes_before_the_source(tmp_path):
    files(tmp_path, "data/a.png", "data/b.png", "elsewhere/deep/a.png")
    finder = ImageFinder(tmp_path / "data", tmp_path / "elsewhere")
    assert found(tmp_path, finder, "a.png") == "elsewhere/deep/a.png"
    assert found(tmp_path, finder, "b.png") == "data/b.png"
    assert finder.find("c.png") == str(tmp_path / "elsewhere" / "c.png")


@pytest.mark.parametrize("suffix", ["png", "JPG", "jpeg", "tif", "TIFF", "bmp", "webp", "dcm"])
def test_every_suffix(tmp_path, suffix):
    finder = files(tmp_path, f"deep/scan.1.{suffix}")
    assert found(tmp_path, finder, "scan.1") == f"deep/scan.1.{suffix}"
    assert finder.by_key("scan.1", "images") == str(tmp_path / "deep" / f"scan.1.{suffix}")


def test_very_many_files_of_one_name_are_found_by_their_folders(tmp_path, monkeypatch):
    """As in CheXpert Plus, whose table names .jpg where .png lie: each file is not compared."""
    from xray_captioning.data.sources import lookup

    names = [f"train/patient{i}/study1/view1_frontal" for i in range(200)]
    finder = files(tmp_path, *(f"PNG/{name}.png" for name in names), "flat/view1_frontal.png")
    compared, agreeing = [], lookup._agreeing
    monkeypatch.setattr(lookup, "_agreeing", lambda *a: compared.append(a) or agreeing(*a))
    for name in names:
        assert found(tmp_path, finder, f"{name}.jpg") == f"PNG/{name}.png"
    assert len(compared) < 4 * len(names)
    assert finder.by_path("train/patient999/study1/view1_frontal.jpg") is None


def test_no_image_is_looked_for_in_a_folder_that_is_absent(tmp_path, monkeypatch):
    finder, asked = files(tmp_path, "images/a.png"), []
    isfile = os.path.isfile
    monkeypatch.setattr(os.path, "isfile", lambda path: asked.append(path) or isfile(path))
    names = [f"{folder}/{i}.png" for folder in ("absent", "/absent") for i in range(9)]
    assert [finder.by_path(name) for name in names] == [None] * len(names)
    assert asked == []
    assert found(tmp_path, finder, "a.png") == "images/a.png"
    assert found(tmp_path, finder, f"{tmp_path}/images/a.png") == "images/a.png"
