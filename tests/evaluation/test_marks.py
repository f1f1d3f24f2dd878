"""The page says which words decided a label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.evaluation.cases import marked


def reasons(text: str) -> dict[str, str]:
    return {piece.text: piece.why for piece in marked(text) if piece.why}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No PTX.", {"PTX": "Pneumothorax: denied by “no”"}),
        ("SMALL Effusion\nhas been drained", {"Effusion": "Pleural Effusion: resolved by “has been drained”"}),
        (
            "Cannot exclude PNA; noeffusion.",
            {"PNA": "Pneumonia: possible by “cannot exclude”", "noeffusion": "Pleural Effusion: denied by “no”"},
        ),
        ("Right hydropneumothorax.", {"hydropneumothorax": "Pleural Effusion: present; Pneumothorax: present"}),
        ("Indication: r/o pneumonia. Findings: edema.", {"edema": "Edema: present"}),
        ("No edema. Edema is seen.", {"Edema": "Edema: present"}),
        ("(nothing)", {}),
        ("", {}),
    ],
)
def test_words_are_marked_as_they_are_written(text, expected):
    assert reasons(text) == expected


def test_a_label_may_be_decided_beyond_what_is_shown():
    text = "No effusion seen. " + "Normal. " * 60 + "Left effusion."
    assert [piece.why for piece in marked(text)] == [""]


PARTS = st.sampled_from(["no ", "PTX", "effusion", ". ", "\n", "? ", "-", "clear lungs", "<b>", ": "])


@given(st.lists(PARTS, max_size=30).map("".join))
def test_pieces_are_the_text(text):
    assert "".join(piece.text for piece in marked(text)) == (text if text.strip() else "(nothing)")
