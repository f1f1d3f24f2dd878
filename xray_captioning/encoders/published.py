"""Networks of the published encoders that ``registry.json`` lists, and their weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from xray_captioning.encoders.filling import load_pytorch
from xray_captioning.encoders.torch_networks import densenet121, dinov2, resnet50
from xray_captioning.errors import BundleError, ConfigError
from xray_captioning.files import read_json
from xray_captioning.hub.encoders import registry
from xray_captioning.hub.fetch import fetch_file


class Network(NamedTuple):
    """How a network is built, which layers are its last block, and which arrays it leaves out."""

    build: Callable[..., Any]
    last_block: tuple[str, ...]
    left_out: str


NETWORKS = {
    "densenet121": Network(
        densenet121, ("features.denseblock4", "features.norm5"), r"classifier\..*|op_threshs"
    ),
    "dinov2": Network(dinov2, ("encoder.layer.11.", "layernorm"), r"embeddings\.mask_token"),
    "resnet50": Network(resnet50, ("layer4.2.",), r"fc\..*|op_threshs"),
}


def build(name: str, size: int, published: bool) -> Any:
    """Build a published encoder, with its weights, which are downloaded, or random ones."""
    one = registry()[name]
    model = NETWORKS[one.network].build(size, one.channels)
    if published:
        if one.file is None:
            raise ConfigError(f"{name} has no address to load from; get it from {one.page}")
        folder = Path.home() / ".cache" / "xray-captioning" / "encoders"
        load(name, model, fetch_file(one.file, folder))
    return model


def load(name: str, model: Any, path: Path) -> None:
    """Fill the network of a published encoder with the weights of a file or folder.

    A folder that is of another model than its arrays' shapes tell is a BundleError, too.
    """
    one = registry()[name]
    for about in ("config.json", "preprocessor_config.json"):
        said = read_json(path / about, "save it again") if (path / about).is_file() else {}
        for key, expected in one.folder.items():
            if said.get(key, expected) != expected:
                raise BundleError(
                    f"{path / about}: {key} is {str(said[key])[:60]}, but {expected} in {name}; "
                    "give the folder of that model"
                )
    load_pytorch(model, path, name, NETWORKS[one.network].left_out)
