"""What devices are, and whether their place is called right."""

import re
import tomllib
from importlib import resources
from pathlib import Path

from xray_captioning.metrics.labeler import explain_report, find_mentions, label_report

SENTENCES = Path(__file__).parent / "devices.tsv"


def test_devices_by_kind_and_place():
    rows = [line.split("\t") for line in SENTENCES.read_text("utf-8").splitlines()[1:]]
    assert len(rows) > 70
    for sentence, expected in rows:
        devices = explain_report(sentence).devices
        said = "; ".join(f"{device.device}={device.placement}" for device in devices)
        assert said == expected, sentence


def test_devices_of_a_whole_report_are_all_there_and_nothing_else_is_one():
    text = "FINDINGS: ETT 1 cm above the carina. NG tube in the stomach. Effusion. ETT was removed."
    explained = explain_report(text)
    kinds = [(device.device, device.placement) for device in explained.devices]
    assert kinds == [
        ("endotracheal tube", "malpositioned"),
        ("enteric tube", "satisfactory"),
        ("endotracheal tube", None),
    ]
    assert explained["Support Devices"] == explained.devices[0]
    effusion = explained["Pleural Effusion"]
    assert (effusion.device, effusion.placement) == (None, None)


def test_a_device_whose_tip_is_not_seen_or_that_is_pulled_back_is_there():
    for text in ("NG tube tip is not seen.", "The ETT has been pulled back by 2 cm."):
        assert label_report(text)["Support Devices"] == 1, text
    assert label_report("The chest tube has been pulled.")["Support Devices"] == 0
    assert find_mentions("The chest tube has been pulled.")[0].placement is None


def test_every_pattern_compiles():
    text = resources.files("xray_captioning.metrics.labels").joinpath("devices.toml")
    kinds = tomllib.loads(text.read_text("utf-8"))["kinds"]
    for name, kind in kinds.items():
        for about in ("named", "satisfactory", "malpositioned"):
            re.compile(kind.get(about, ""))
        assert set(kind) <= {"named", "satisfactory", "malpositioned", "cm_above_carina"}, name
