"""Commands that list what there is to choose from: encoders, decoders, presets and fields."""

import ast
import inspect
import json
import re
from itertools import pairwise

import click

from xray_captioning import config
from xray_captioning.cli import options
from xray_captioning.plugins import model_names, origin_of


@click.command()
@options.no_seed
def encoders() -> None:
    """List encoders that others have published, with licence, pixels and address, and your own.

    Each is an --encoder of `encode` and a model.encoder of `train`, unless it says otherwise.
    """
    from xray_captioning.hub.fetch import registry

    for name, one in registry().items():
        click.echo("\n  ".join([name, *one.lines()]) + "\n")
    for name in model_names({}, "encoder"):
        click.echo(f"{name}\n  of the package {' '.join(origin_of('encoder', name).values())}\n")


@click.command()
@options.no_seed
def decoders() -> None:
    """List the decoders, a line each, and your own; each is a model.decoder of `train`."""
    from xray_captioning.decoders import DECODERS

    for name in model_names(DECODERS, "decoder"):
        if name in DECODERS:
            said = _first_sentence((inspect.getdoc(DECODERS[name].kind) or "").partition("\n\n")[0])
        else:
            said = f"of the package {' '.join(origin_of('decoder', name).values())}"
        click.echo(f"{name}: {said}")


@click.command()
@options.no_seed
def presets() -> None:
    """List the presets, a line each; each is a --preset of `train` and `train-encoder`."""
    for name in config.presets():
        click.echo(f"{name}: {_first_sentence(config.read_preset(name)['about'])}")


@click.command()
@options.no_seed
def fields() -> None:
    """List what --set changes, a line each: its value where neither preset nor --set say another, and its meaning."""
    said, default = _descriptions(), config.Config()
    for name, value in default.flat().items():
        group, _, field = name.rpartition(".")
        owners = type(getattr(default, group) if group else default).__mro__
        text = next(said[owner.__name__, field] for owner in owners if (owner.__name__, field) in said)
        click.echo(f"{name}={json.dumps(value)}: {_first_sentence(text)}")


def _descriptions() -> dict[tuple[str, str], str]:
    """Return what stands below each field in the source of the configuration, by class and field."""
    classes = [node for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)]
    return {
        (owner.name, field.target.id): ast.literal_eval(text.value)
        for owner in classes
        for field, text in pairwise(owner.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(text, ast.Expr)
    }


def _first_sentence(text: str) -> str:
    plain = re.sub(r":\w+:`([^`]+)`|`+", r"\1", " ".join(text.split()))
    return re.split(r"(?<=[^.]\w)\. (?=[A-Z`])", plain)[0].rstrip(".") + "."
