"""Each view has its own place in a model; an image never stands in the other view's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xray_captioning.data.studies import VIEWS, select_images


@pytest.mark.parametrize(
    ("views", "expected"),
    [
        ("F", ["a"]),
        ("L", [None, "a"]),
        ("U", ["a"]),
        ("FL", ["a", "b"]),
        ("LF", ["b", "a"]),
        ("UU", ["a", "b"]),
        ("LU", ["b", "a"]),
        ("FU", ["a", "b"]),
        ("LL", [None, "a"]),
        ("FF", ["a"]),
        ("LFF", ["b", "a"]),
        ("UUU", ["a", "b"]),
        ("FFL", ["a", "c"]),
        ("FFU", ["a", "c"]),
        ("LUU", ["b", "a"]),
    ],
)
def test_each_image_stands_in_the_place_of_its_view(views, expected):
    names = [{"F": "frontal", "L": "lateral", "U": "unknown"}[letter] for letter in views]
    assert select_images("abc"[: len(names)], names, 2) == expected


def test_a_lone_image_is_repeated_only_where_asked():
    assert select_images(["a"], ["frontal"], 2) == ["a"]
    assert select_images(["a"], ["lateral"], 2, repeat=True) == ["a", "a"]


def test_a_model_of_one_view_looks_at_what_there_is():
    assert select_images(["a", "b", "c"], ["unknown"] * 3, 1) == ["a"]
    assert select_images(["a", "b"], ["lateral", "frontal"], 1) == ["b"]
    assert select_images(["a", "b"], ["lateral", "unknown"], 1) == ["b"]
    assert select_images(["a"], ["lateral"], 1) == ["a"]


def test_a_third_place_takes_what_is_left():
    assert select_images("abc", ["frontal", "frontal", "lateral"], 3) == ["a", "c", "b"]
    assert select_images("abc", ["lateral"] * 3, 3) == [None, "a", "b"]


@given(st.lists(st.sampled_from(VIEWS), max_size=5), st.integers(2, 4))
def test_no_named_view_stands_in_the_others_place(views, count):
    chosen = select_images(range(len(views)), views, count)
    assert len(chosen) <= count
    present = [image for image in chosen if image is not None]
    assert len(set(present)) == len(present)
    assert bool(present) == bool(views)
    for place, other in enumerate(("lateral", "frontal")):
        assert chosen[place : place + 1] == [None] or other not in [
            views[image] for image in chosen[place : place + 1]
        ]
