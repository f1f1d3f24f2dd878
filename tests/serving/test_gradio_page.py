"""The page of a Gradio Space; skipped where gradio is not installed, which no extra asks for."""

import importlib.util
from pathlib import Path

import pytest

gradio = pytest.importorskip("gradio")


@pytest.fixture(scope="module")
def module():
    path = Path(__file__).resolve().parents[2] / "gradio_app.py"
    spec = importlib.util.spec_from_file_location("gradio_app", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_sample_is_captioned_and_what_is_not_confident_withheld(module):
    caption, pictures, findings = module.answer(None, "Sample 1", 1, 0)
    assert "xc-caption" in caption
    assert "A drawing, not a patient" in caption
    assert [picture.shape for picture, _ in pictures] == [(560, 560, 3)] * 2
    assert "present" in findings
    assert "not confident" in module.answer(None, "Sample 1", 1, 100)[0]


def test_what_cannot_be_read_is_one_line_without_the_name(module, tmp_path):
    (tmp_path / "jane_doe.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(gradio.Error, match="image 1: is truncated"):
        module.answer([str(tmp_path / "jane_doe.png")], "Sample 1", 1, 0)
    with pytest.raises(gradio.Error, match="choose a sample"):
        module.answer(None, None, 1, 0)


def test_the_page_says_what_it_is_not_for(module):
    assert "Not for clinical use" in str(module.page().get_config_file())
