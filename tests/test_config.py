import json
import math
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
    "encoder_training.precision": ["float32", "bfloat16"],
    "training.cache_dtype": ["float32", "float16"],
    "training.schedule": ["cosine", "constant"],
    "encoder_training.schedule": ["cosine", "constant"],
    "training.monitor": [
        "val_loss",
        *(f"val_BLEU-{n}" for n in range(1, 5)),
        "val_ROUGE-L",
        "val_CIDEr",
        "val_clinical_f1",
    ],
}


def value_of(dotted: str, config: Config | None = None) -> Any:
    values: Any = (config or Config()).to_dict()
    for name in dotted.split("."):
        values = values[name]
    return values


def good_values(dotted: str) -> st.SearchStrategy[Any]:
    if dotted in CHOICES:
        return st.sampled_from(CHOICES[dotted])
    if dotted == "fractions":
        shares = st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(1, 10))
        return shares.map(lambda parts: [part / sum(parts) for part in parts])
    if dotted == "text.context":
        return st.lists(st.sampled_from(["indication", "prior"]), unique=True)
    if dotted == "training.reward":
        return st.fixed_dictionaries(dict.fromkeys(value_of(dotted), st.floats(0, 9)))
    if dotted.endswith(".learning_rate"):
        return st.floats(1e-9, 1)
    kinds: dict[type, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(16, 10_000),
        float: st.floats(0, 0.99) | st.just(0),
        str: st.text(max_size=20),
        dict: st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())),
    }
    return kinds[type(value_of(dotted))]


GOOD = {name: good_values(name) for name in fields()}


@settings(deadline=None, max_examples=40)  # a busy machine is no defect
@given(st.fixed_dictionaries({}, optional=GOOD))
def test_json_round_trip(changes: dict[str, Any]) -> None:
    config = Config().replace(changes)
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert hash(Config.from_dict(config.to_dict())) == hash(config)
    for dotted, value in changes.items():
        assert value_of(dotted, config) == value


@given(st.sampled_from(fields()), st.data())
def test_an_assignment_is_what_was_typed(dotted: str, data: st.DataObject) -> None:
    value = data.draw(GOOD[dotted])
    assert parse_assignment(f"{dotted}={json.dumps(value)}") == (dotted, value)


def test_parse_assignment() -> None:
    for text, expected in {
        "training.epochs=3": ("training.epochs", 3),
        "text.section=findings": ("text.section", "findings"),
        "text.prettify=false": ("text.prettify", False),
        "name = a=b ": ("name", "a=b"),
        "fractions=[0.5, 0.25, 0.25]": ("fractions", [0.5, 0.25, 0.25]),
        "name=": ("name", ""),
        "name=" + "9" * 5000: ("name", "9" * 5000),
        "name=" + "[" * 99: ("name", "[" * 99),
    }.items():
        assert parse_assignment(text) == expected
    with pytest.raises(ConfigError, match=r"'epochs'; write FIELD=VALUE, such as training\.epochs"):
        parse_assignment("epochs")


def test_bytes_that_are_no_text_are_refused() -> None:
    # As Python hands over an argument of the command line that is no UTF-8.
    with pytest.raises(ConfigError, match="does not fit"):
        Config().replace(dict([parse_assignment("image.resize=\udce0")]))


def refused(values: dict[str, Any]) -> str:
    """Return the one line that refuses an assignment of dotted names."""
    with pytest.raises(ConfigError) as found:
        Config().replace(values)
    assert "\n" not in str(found.value)
    return str(found.value)


def test_unknown_fields_are_named_with_those_there_are() -> None:
    assert "unknown field 'speed'; fields are name, fractions" in refused({"speed": 1})
    assert "training: unknown field 'speed'; fields are epochs" in refused({"training.speed": 1})
    assert "unknown field ''; fields are name" in refused({"": 1})
    assert "unknown field 'speed'; fields are name" in refused({"speed.x": 1})
    assert "'first'; fields are name" in refused({"name.first": 1})
    for name in ("training.", "."):
        refused({name: 1})
    for hostile in ("a - at `$.b`", "a - at `$.image`", "a\n - at `$.image.size.c`", "`"):
        with pytest.raises(ConfigError, match=r"^here: .*unknown field"):
            Config.from_dict({"image": {hostile: 1}}, "here")
        with pytest.raises(ConfigError, match=r"^here: .*unknown field"):
            Config.from_dict({hostile: 1}, "here")


EVERY: list[Any] = [None, "word", 20, 20.5, True, [], [1, 2], {}, {"size": 3}]
FITTING = {float: (int, float), str: (str,), int: (int,), bool: (bool,), dict: (dict,)}
OUT_OF_RANGE = {float: [math.nan, math.inf, -math.inf, 10**400, -0.1, 2**32], int: [-1, 2**32]}
BELOW_ONE = ("model.dropout", "training.label_smoothing", "training.scheduled_sampling")


def test_every_field_has_its_type_and_range() -> None:
    for dotted in fields():
        kind = type(value_of(dotted))
        fitting = (list,) if dotted == "text.context" else FITTING.get(kind, ())  # an empty one is none
        bad = [value for value in EVERY if type(value) not in fitting]
        bad += OUT_OF_RANGE.get(kind, [])
        bad += [1] if dotted in BELOW_ONE else []
        for value in bad:
            assert f"configuration: {dotted}: {value!r:.40} does not fit; " in refused({dotted: value})


@pytest.mark.parametrize("group", ["image", "text", "model", "training", "decoding"])
def test_a_group_is_an_object(group: str) -> None:
    for value in (None, 3, "x", [], [["size", 3]]):
        with pytest.raises(ConfigError, match=f"^a file: {group}: .* expected object, got"):
            Config.from_dict({group: value}, "a file")
        assert "expected object" in refused({group: value})
    assert f"{group} has no field 'size'" in refused({group: 3, f"{group}.size": 3})
    with pytest.raises(ConfigError, match=r"^here: \[\] does not fit; expected object"):
        Config.from_dict([], "here")  # type: ignore[arg-type]


def test_messages_say_the_bound_or_the_choices() -> None:
    for dotted, choices in CHOICES.items():
        expected = f"{dotted}: 'x' does not fit; choose one of {', '.join(choices)}"
        assert expected in refused({dotted: "x"})
    for dotted, value, words in [
        ("model.dropout", 1, "expected float < 1.0"),
        ("image.size", 15, "expected int >= 16"),
        ("text.maximum_length", 2, "expected int >= 3"),
        ("training.epochs", 0, "expected int >= 1"),
        ("decoding.beam_size", 0, "expected int >= 1"),
        ("training.learning_rate", 0, "expected float >= 1e-09"),
    ]:
        assert f"{dotted}: {value} does not fit; {words}" in refused({dotted: value})
    assert "fractions[1]: [1, 'x', 0] does not fit; expected float" in refused({"fractions": [1, "x", 0]})


@pytest.mark.parametrize(
    "fractions", [[1, 1, 1], [0.5, 0.5, 0.5], [1.5, -0.5, 0], [0, 0, 0], [1, 0], [1, 0, 0, 0], [math.nan, 1, 0]]
)
def test_fractions_are_shares(fractions: list[float]) -> None:
    assert "fractions" in refused({"fractions": fractions})


def test_presets_load() -> None:
    assert {"chexnet_attention", "phantom_attention"} <= set(presets())
    for name in presets():
        config = load_preset(name)
        assert config.name == name
        assert Config.from_dict(config.to_dict()) == config
    for name in ("best", "", "../presets/phantom_attention"):
        with pytest.raises(ConfigError, match=r"unknown preset .* presets are .*phantom_attention"):
            load_preset(name)


def test_fields_names_all_of_them() -> None:
    names = fields()
    assert len(names) == len(set(names))
    assert {"name", "fractions", "image.size", "training.seed"} <= set(names)
    assert {name.split(".")[0] for name in names} == set(Config().to_dict())


def test_a_configuration_cannot_be_changed() -> None:
    config = Config()
    changed = config.replace({"training.epochs": 3})
    assert (config.training.epochs, changed.training.epochs) == (30, 3)
    with pytest.raises(AttributeError):
        config.name = "other"  # type: ignore[misc]
