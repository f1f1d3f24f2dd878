import json
import math
from dataclasses import fields as dataclass_fields
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xray_captioning.config import Config, fields, load_preset, parse_assignment, presets
from xray_captioning.errors import ConfigError

CHOICES = {
    "image.resize": ["area", "linear", "nearest"],
    "image.normalisation": ["imagenet", "unit"],
    "text.section": ["impression", "findings", "report"],
    "text.cleaning": ["plain", "r2gen", "legacy"],
    "model.normalisation": ["layer", "batch"],
    "training.precision": ["float32", "bfloat16"],
    "training.cache_dtype": ["float32", "float16"],
}


def value_of(dotted: str) -> Any:
    values: Any = Config().to_dict()
    for name in dotted.split("."):
        values = values[name]
    return values


def good_values(dotted: str) -> st.SearchStrategy[Any]:
    if dotted in CHOICES:
        return st.sampled_from(CHOICES[dotted])
    if dotted == "fractions":
        shares = st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(1, 10))
        return shares.map(lambda parts: [part / sum(parts) for part in parts])
    if dotted.endswith(".learning_rate"):
        return st.floats(1e-9, 1)
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(16, 10_000),
        float: st.floats(0, 0.99) | st.just(0),
        str: st.text(max_size=20),
    }
    return kinds[type(value_of(dotted))]


@settings(deadline=None)  # a busy machine is no defect
@given(st.fixed_dictionaries({}, optional={name: good_values(name) for name in fields()}))
def test_json_round_trip(changes: dict[str, Any]) -> None:
    config = Config().replace(changes)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config().replace({}) == Config()
    for dotted, value in changes.items():
        found: Any = config.to_dict()
        for name in dotted.split("."):
            found = found[name]
        assert found == value


@given(st.sampled_from(fields()), st.data())
def test_an_assignment_is_what_was_typed(dotted: str, data: st.DataObject) -> None:
    value = data.draw(good_values(dotted))
    assert parse_assignment(f"{dotted}={json.dumps(value)}") == (dotted, value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.epochs=3", ("training.epochs", 3)),
        ("text.section=findings", ("text.section", "findings")),
        ("text.prettify=false", ("text.prettify", False)),
        ("name = a=b ", ("name", "a=b")),
        ("fractions=[0.5, 0.25, 0.25]", ("fractions", [0.5, 0.25, 0.25])),
        ("name=", ("name", "")),
        ("name=" + "9" * 5000, ("name", "9" * 5000)),
        ("name=" + "[" * 100_000, ("name", "[" * 100_000)),
    ],
    ids=lambda value: str(value)[:20],
)
def test_parse_assignment(text: str, expected: tuple[str, Any]) -> None:
    assert parse_assignment(text) == expected


def test_an_assignment_needs_an_equals_sign() -> None:
    with pytest.raises(ConfigError, match=r"'epochs'; write FIELD=VALUE, such as training\.epochs"):
        parse_assignment("epochs")


@pytest.mark.parametrize("name", ["speed", "training.speed", "training.", "", ".", "name.first"])
def test_unknown_fields(name: str) -> None:
    with pytest.raises(ConfigError):
        Config().replace({name: 1})


def test_an_unknown_field_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="unknown field 'speed'; fields are name, fractions"):
        Config().replace({"speed": 1})
    with pytest.raises(
        ConfigError, match=r"here\.training: unknown field 'speed'; fields are epochs"
    ):
        Config.from_dict({"training": {"speed": 1}}, "here")


def bad_types(dotted: str) -> list[Any]:
    kind = type(value_of(dotted))
    every: list[Any] = [None, "word", 20, 20.5, True, [], [1, 2], {}, {"size": 3}]
    fits = {float: (int, float), str: (str,), int: (int,), bool: (bool,)}.get(kind, ())
    return [value for value in every if type(value) not in fits]


@pytest.mark.parametrize("dotted", fields())
def test_wrong_types(dotted: str) -> None:
    for value in bad_types(dotted):
        with pytest.raises(ConfigError, match=dotted.replace(".", r"\.")):
            Config().replace({dotted: value})


@pytest.mark.parametrize("group", ["image", "text", "model", "training", "decoding"])
@pytest.mark.parametrize("value", [None, 3, "x", [], [["size", 3]]])
def test_a_group_is_an_object(group: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{group}: .* object of fields"):
        Config.from_dict({group: value})


@pytest.mark.parametrize("dotted", [name for name in fields() if type(value_of(name)) is float])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, -0.1])
def test_numbers_that_are_none(dotted: str, value: float) -> None:
    with pytest.raises(ConfigError, match=dotted.replace(".", r"\.")):
        Config().replace({dotted: value})


@pytest.mark.parametrize("dotted", [name for name in fields() if type(value_of(name)) is int])
def test_whole_numbers_have_bounds(dotted: str) -> None:
    for value in (-1, 2**32):
        with pytest.raises(ConfigError, match=dotted.replace(".", r"\.")):
            Config().replace({dotted: value})


@pytest.mark.parametrize("dotted", CHOICES)
def test_choices_are_listed(dotted: str) -> None:
    with pytest.raises(ConfigError, match=f"{dotted} is 'x'; choose one of {CHOICES[dotted][0]}, "):
        Config().replace({dotted: "x"})


@pytest.mark.parametrize(
    "fractions",
    [[1, 1, 1], [0.5, 0.5, 0.5], [1.5, -0.5, 0], [0, 0, 0], [1, 0], [1, 0, 0, 0], [math.nan, 1, 0]],
)
def test_fractions_are_shares(fractions: list[float]) -> None:
    with pytest.raises(ConfigError, match="fractions"):
        Config().replace({"fractions": fractions})


def test_dropout_is_below_one() -> None:
    with pytest.raises(ConfigError, match=r"model\.dropout is 1\.0; it must be below 1"):
        Config().replace({"model.dropout": 1})


@pytest.mark.parametrize("name", presets())
def test_presets_load(name: str) -> None:
    config = load_preset(name)
    assert config.name == name
    assert Config.from_dict(config.to_dict()) == config


def test_the_shipped_presets_are_there() -> None:
    assert {"chexnet_attention", "phantom_attention"} <= set(presets())


@pytest.mark.parametrize(
    "name", ["best", "", "../presets/phantom_attention", "phantom_attention.json"]
)
def test_an_unknown_preset(name: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown preset .* presets are .*phantom_attention"):
        load_preset(name)


def test_fields_names_all_of_them() -> None:
    names = fields()
    assert len(names) == len(set(names))
    assert {"name", "fractions", "image.size", "training.seed"} <= set(names)
    groups = {name.split(".")[0] for name in names}
    assert groups == {field.name for field in dataclass_fields(Config)}


def test_a_configuration_cannot_be_changed() -> None:
    config = Config()
    changed = config.replace({"training.epochs": 3})
    assert (config.training.epochs, changed.training.epochs) == (30, 3)
    with pytest.raises(AttributeError):
        config.name = "other"  # type: ignore[misc]
