"""What to cite: whole entries, of what was used."""

import json
import re
import shutil
from pathlib import Path

import pytest

from xray_captioning import __version__
from xray_captioning.data.citations import DATA, ENCODERS, bibtex
from xray_captioning.data.sources.reading import READERS
from xray_captioning.errors import DataError
from xray_captioning.files import shipped_folder
from xray_captioning.hub.fetch import registry

ENTRY = re.compile(r"@(\w+){(\w+),\n(.*?)\n}", re.DOTALL)
FIELD = re.compile(r"^  (\w+) += {(.*)},?$")


def entries(text: str) -> dict[str, dict[str, str]]:
    """Return the fields of each entry, where every line of it is one."""
    found = {}
    for _, key, body in ENTRY.findall(text):
        assert key not in found
        found[key] = dict(FIELD.fullmatch(line).groups() for line in body.split("\n"))
    return found


def test_every_entry_is_whole() -> None:
    names = [*DATA, *(name.replace("*", "") for name in ENCODERS)]
    text = bibtex(names)
    found = entries(text)
    assert text.count("@") == len(found) > 25
    for key, fields in found.items():
        assert {"author", "title"} <= set(fields), key
        for value in fields.values():
            assert value.count("{") == value.count("}"), key
        if key != "xray_captioning":
            assert fields["year"] == re.search(r"\d{4}", key)[0]
            assert fields.keys() & {"doi", "journal", "booktitle"}, key
            assert re.fullmatch(r"10\.\d{4,}/\S+", fields.get("doi", "10.1000/none"))
    assert found["xray_captioning"]["version"] == __version__


def test_the_software_is_that_of_the_citation_file() -> None:
    lines = (Path(__file__).parents[2] / "CITATION.cff").read_text("utf-8").splitlines()
    fields = entries(bibtex([]))["xray_captioning"]
    for line in (f"title: {fields['title']}", f"  - name: {fields['author'].strip('{}')}"):
        assert line.replace("\\_", "_") in lines
    assert f"version: {fields['version']}" in lines


def test_every_kind_of_data_and_every_published_encoder_is_known_or_of_no_paper() -> None:
    nobodys = {"coco", "captions", "texts", "dicom"}  # layouts, not collections
    assert set(DATA) | nobodys == set(READERS)
    unknown = [name for name in registry() if bibtex([name]).count("@") == bibtex([]).count("@")]
    assert unknown == []


def test_each_name_adds_its_own_and_none_twice() -> None:
    found = bibtex(["openi", "kaggle", "facebook/dinov2-with-registers-base"])
    assert found.count("demnerfushman2016openi,\n") == 1
    assert {"oquab2024dinov2", "darcet2024registers"} <= set(entries(found))
    assert "% facebook/dinov2-with-registers-base: oquab2024dinov2, darcet2024registers" in found
    assert "wang2017chestxray8" in entries(bibtex(["densenet121-res224-nih"]))
    assert "wang2017chestxray8" not in entries(bibtex(["densenet121-res224-pc"]))


def test_an_encoder_without_a_paper_and_one_by_its_address() -> None:
    from xray_captioning.encoders.backbones import ENCODERS

    assert "% resnet50v2: nothing known" in bibtex(["resnet50v2"])
    assert bibtex(ENCODERS)
    assert "perezgarcia2025raddino" in entries(bibtex(["microsoft/rad-dino"]))


def test_data_are_cited_by_what_they_are(phantoms: Path, tmp_path: Path) -> None:
    plain = entries(bibtex([]))
    assert entries(bibtex([str(phantoms)])) == plain  # drawn here, though in the layout of Kaggle's tables
    assert "data read as phantoms: nothing known" in bibtex([str(phantoms)])
    copied = tmp_path / "at@home"
    copied.mkdir()
    for table in phantoms.glob("indiana_*.csv"):
        shutil.copy(table, copied)
    found = bibtex([str(copied)])
    assert set(entries(found)) - set(plain) == {"demnerfushman2016openi"}
    assert found.count("@") == len(plain) + 1  # no sign of an entry in a comment


def test_a_bundle_is_cited_by_its_encoder_and_its_data(tmp_path: Path) -> None:
    shipped = bibtex(["phantom_attention"])
    assert entries(shipped) == entries(bibtex([]))
    assert "phantom_attention, encoder phantom_cnn: nothing known" in shipped
    values = json.loads((shipped_folder() / "phantom_attention" / "captioner.json").read_text("utf-8"))
    values["config"]["model"]["encoder"] = "chexnet"
    values["about"] = {"data": {"read_as": "mimic_cxr"}}
    (tmp_path / "captioner.json").write_text(json.dumps(values), "utf-8")
    found = set(entries(bibtex([str(tmp_path)])))
    assert {"rajpurkar2017chexnet", "huang2017densenet", "johnson2019mimiccxr"} <= found
    with pytest.raises(DataError, match="nobody: is no bundle, data, encoder or collection; collections are kaggle"):
        bibtex(["nobody"])
