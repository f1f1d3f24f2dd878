"""The published attention captioner and CheXNet, from their Keras 2 files. Which array is which, its name usually says.
Where Keras has renamed layers, because a session built them again (``dense_7``, ``gru_cell_1``, a prefix), the order
inside the decoder's group and the shapes decide. Sizes are read from the shapes.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from xray_captioning.captioner.captioner import Captioner
from xray_captioning.checkpoints import StoredArray, read_keras2
from xray_captioning.config import Config
from xray_captioning.decoders import CaptionModel
from xray_captioning.decoders.model import new_model
from xray_captioning.encoders import Encoder, filling
from xray_captioning.errors import BundleError
from xray_captioning.files import read_toml, sha256_file
from xray_captioning.findings import NIH14
from xray_captioning.legacy import SOURCE
from xray_captioning.text.token_ids import FilePath
from xray_captioning.text.tokenizer import Tokenizer

# The layers of the captioner's file, and what tells each, called otherwise, from others: its arrays' names.
LAYERS: dict[str, Callable[[list[str]], bool]] = {
    "image_encoder": lambda leaves: len(leaves) > 100,
    "bkdense": lambda leaves: set(leaves) <= {"kernel", "bias"},
    "encoder_batch_norm": lambda leaves: "gamma" in leaves,
    "decoder": lambda leaves: "recurrent_kernel" in leaves,
}
EMBEDDING = "decoder/onestepdecoder_embedding"
CELL = "decoder/onestepdecoder_LSTM/gru_cell"
KEY, QUERY, ENERGY = (f"decoder/global_attention/dense{n}" for n in ("", "_1", "_2"))
LOGITS = "decoder/dense_3"
_FILE = read_toml(__file__, "layout.toml")
ATTENTION: dict[str, Any] = _FILE["attention"]  # its configuration, without the sizes
LAYOUT: dict[str, list[str | int]] = _FILE["shapes"]
PUBLISHED: dict[str, int] = _FILE["published"]
_ENCODER = "image_encoder/"
_IMAGE = {name: ATTENTION["image"][name] for name in ("size", "resize", "normalisation")}
Owner = tuple[str, ...]
Shapes = dict[str, tuple[int, ...]]


def load_attention_captioner(
    weights_h5: FilePath, tokenizer_pkl: FilePath, start: str | None = None, end: str | None = None
) -> Captioner:
    """Read the published attention captioner, executing nothing; images are prepared as in its own program.

    Parameters
    ----------
    weights_h5 : str or os.PathLike
        ``Encoder_Decoder_global_attention.h5`` or another file of its layout; shapes tell vocabulary and widths.
    tokenizer_pkl : str or os.PathLike
        The ``tokenizer.pkl`` published beside it, or the JSON of a Keras tokenizer.
    start, end : str, optional
        The tokenizer's words that begin and end a caption; by default they are found.

    Raises
    ------
    BundleError, DataError
        The weights are damaged, an array is missing, misshapen or not expected, the vocabularies are of different
        sizes, or the tokenizer cannot be read.
    """
    read = Tokenizer.from_json if Path(tokenizer_pkl).suffix.lower() == ".json" else Tokenizer.from_pickle
    tokenizer, arrays = read(tokenizer_pkl, start, end), read_keras2(weights_h5)
    if not any(array.leaf in ("recurrent_kernel", "embeddings") for array in arrays):
        raise BundleError(f"{weights_h5}: holds no decoder; if it is CheXNet, leave out the tokenizer")
    found, rest = place(arrays)
    sizes, encoder = read_sizes(found), Encoder("chexnet", 224, pool=2)
    network = {_ENCODER + name: v for name, v in filling.densenet121_variables(encoder).items()}
    inside, others = ([a for a in rest if (a.layer == "image_encoder") is there] for there in (True, False))
    matched, unknown = filling.match_densenet121(inside, [name.removeprefix(_ENCODER) for name in network])
    images = {_ENCODER + name: array for name, array in matched.items()}
    shapes = {**filling.shapes_of(network), **expected_shapes(sizes)}
    filling.check(weights_h5, "the attention captioner", shapes, {**images, **found}, unknown + others)
    if tokenizer.vocabulary_size != sizes["vocabulary"]:
        what = f"has {tokenizer.vocabulary_size} token ids, and {weights_h5} has {sizes['vocabulary']}"
        raise BundleError(f"{tokenizer_pkl}: {what}; give the two files of one model")
    widths = {name: size for name, size in sizes.items() if name != "vocabulary"}
    config = Config.from_dict(ATTENTION | {"model": ATTENTION["model"] | widths})
    model = new_model(config, encoder, tokenizer)
    filling.fill(network, images)
    filling.fill(_variables(model), found)
    about = describe_import(config, weights=weights_h5, tokenizer=tokenizer_pkl)
    return Captioner(config, encoder, model, tokenizer, about)


def load_chexnet(weights_h5: FilePath) -> Encoder:
    """Read CheXNet (arXiv:1711.05225): DenseNet121, average pooling and fourteen sigmoids, ChestX-ray14's labels. The
    file is ``brucechou1983_CheXNet_Keras_0.3.0_weights.h5`` or of its layout, trained on frontal images of 224 px with
    ImageNet's mean and deviation; one that is damaged or does not fit is a BundleError.
    """
    arrays = read_keras2(weights_h5)
    if any(array.leaf == "recurrent_kernel" for array in arrays):
        raise BundleError(f"{weights_h5}: holds a captioner with its decoder; give its tokenizer as well (--tokenizer)")
    encoder = Encoder("chexnet", 224, findings=NIH14)
    filling.load_densenet121(encoder, weights_h5, arrays, "CheXNet", encoder.classifier.weights)
    return encoder


def chexnet_config(normalisation: str) -> Config:
    """Return the configuration of a CheXNet bundle: one frontal view of 224 px."""
    # Its author trained with ``imagenet``; the published captioning project used ``unit`` with nearest neighbour.
    resize = _IMAGE["resize"] if normalisation == "unit" else "area"
    image = {"size": 224, "resize": resize, "normalisation": normalisation, "views": 1}
    return Config.from_dict({"name": "chexnet", "image": image, "model": {"encoder": "chexnet", "pool": 1}})


def describe_import(config: Config, **files: FilePath) -> dict[str, Any]:
    """Return the origin of a bundle, to be stored in it: the files' names and SHA-256."""
    image = config.image
    as_published = {name: getattr(image, name) for name in _IMAGE} == _IMAGE
    prepared = f"{'as published: ' * as_published}{image.size} px, {image.resize} resizing, divided by 255"
    prepared += ", then as ImageNet's" * (image.normalisation != "unit")
    prepared += ", a single image in every view" * image.repeat_single_view
    data = {"preprocessing": prepared, "measured": "nothing here"}
    for name, path in files.items():
        data |= {name: Path(path).name, f"{name}_sha256": sha256_file(path)}
    return {"source": SOURCE, "encoder": "weights as published", "data": data}


def _variables(model: CaptionModel) -> dict[str, Any]:
    decoder, cell = model.decoder, model.decoder.cell
    layers = {"bkdense": model.head.project, "encoder_batch_norm": model.head.norm, EMBEDDING: decoder.embedding}
    layers |= {CELL: cell.gru, KEY: cell.key, QUERY: cell.query, ENERGY: cell.energy, LOGITS: decoder.logits}
    return {f"{name}/{v.name}": v for name, layer in layers.items() for v in layer.weights}


def place(arrays: Iterable[StoredArray]) -> tuple[dict[str, StoredArray], list[StoredArray]]:
    """Return arrays by their names in `LAYOUT`, and the others, of which the encoder's layer is ``image_encoder``."""
    layers: dict[str, list[StoredArray]] = {}
    for array in arrays:
        layers.setdefault(array.layer, []).append(array)
    ordered, roles = [array for members in layers.values() for array in members], _layer_roles(layers)
    owners = _decoder_owners([array for array in ordered if roles.get(array.layer) == "decoder"])
    found: dict[str, StoredArray] = {}
    rest = []
    for array in ordered:
        layer = roles.get(array.layer, array.layer)
        name = f"{owners.get(array.owner) if layer == 'decoder' else layer}/{array.leaf}"
        if name in LAYOUT and name not in found:
            found[name] = array
        else:
            rest.append(array._replace(layer=layer) if layer == "image_encoder" else array)
    return found, rest


def read_sizes(found: dict[str, StoredArray]) -> dict[str, int]:
    """Return the size of each name in `PUBLISHED` that most of the arrays found agree on."""
    votes: dict[str, list[int]] = {name: [] for name in PUBLISHED}
    for name, axes in LAYOUT.items():
        shape = found[name].values.shape if name in found else ()
        for axis, length in zip(axes, shape) if len(axes) == len(shape) else ():
            if axis == "3 units" and length % 3 == 0:
                votes["units"].append(length // 3)
            elif axis in votes:
                votes[str(axis)].append(length)
    cell = found.get(f"{CELL}/kernel")
    if cell is not None and cell.values.ndim == 2:
        votes["embedding"].append(cell.values.shape[0] - _elected("head", votes["head"]))
    return {name: _elected(name, lengths) for name, lengths in votes.items()}


def expected_shapes(sizes: dict[str, int]) -> Shapes:
    """Return the shape of each array of the layout for given sizes."""
    known: dict[Any, Any] = {**sizes, "3 units": 3 * sizes["units"]}
    known["head + embedding"] = sizes["head"] + sizes["embedding"]
    return {name: tuple(known.get(axis, axis) for axis in axes) for name, axes in LAYOUT.items()}


def _elected(name: str, lengths: list[int]) -> int:
    counted = Counter(length for length in lengths if length > 0)
    most = max(counted.values(), default=0)
    tied = [length for length, votes in counted.items() if votes == most]
    return tied[0] if tied and PUBLISHED[name] not in tied else PUBLISHED[name]


def _layer_roles(layers: dict[str, list[StoredArray]]) -> dict[str, str]:
    """Return what layers of the file are, told by name or, where that fails, by content."""
    roles: dict[str, str] = {}
    leaves = {name: [array.leaf for array in members] for name, members in layers.items()}
    for by_name in (True, False):
        for role, holds in LAYERS.items():
            free, named = [name for name in layers if name not in roles], re.compile(rf"(.*/)?{role}(_\d+)?")
            fits = [n for n in free if (named.fullmatch(n) if by_name else holds(leaves[n]))]
            if role not in roles.values() and len(fits) == 1:
                roles[fits[0]] = role
    return roles


def _decoder_owners(members: list[StoredArray]) -> dict[Owner, str]:
    """Return the published name of each layer inside the decoder."""
    owners: dict[Owner, Shapes] = {}
    for array in members:
        owners.setdefault(array.owner, {})[array.leaf] = array.values.shape
    named: dict[Owner, str] = {}
    for name, leaf, words in ((CELL, "recurrent_kernel", "gru|lstm|cell"), (EMBEDDING, "embeddings", "embedding$")):
        fits = [o for o in owners if leaf in owners[o]]
        fits += [o for o in owners if re.search(words, "/".join(o), re.IGNORECASE)]
        named |= {fits[0]: name} if fits else {}
    dense = {o: s for o, s in owners.items() if o not in named and set(s) <= {"kernel", "bias"}}
    rows = [s["embeddings"][0] for s in owners.values() if s.get("embeddings")]
    units = [s["recurrent_kernel"][0] for s in owners.values() if s.get("recurrent_kernel")]
    return {**named, **_dense_owners(dense, rows, units)}


def _dense_owners(dense: dict[Owner, Shapes], rows: list[int], units: list[int]) -> dict[Owner, str]:
    names = {owner: name for owner in dense if (name := _published(owner))}
    if len(set(names.values())) < 4 and (len(dense) >= 4 or len(names) < len(dense)):
        names = _by_order(dense, rows)
    # The key layer reads regions and the query layer the state: their widths may tell them apart.
    places = {name: owner for owner, name in names.items()}
    if KEY in places and QUERY in places and units:
        key, query = (dense[places[name]].get("kernel", (0,))[0] for name in (KEY, QUERY))
        if key == units[0] != query:
            names |= {places[KEY]: QUERY, places[QUERY]: KEY}
    return names


def _published(owner: Owner) -> str | None:
    """Return a dense layer's published name if it still ends in it."""
    attention = len(owner) > 1 and re.fullmatch(r"global_attention(_\d+)?", owner[-2])
    name = f"decoder/{'global_attention/' if attention else ''}{owner[-1] if owner else ''}"
    return name if name in (KEY, QUERY, ENERGY, LOGITS) else None


def _by_order(dense: dict[Owner, Shapes], rows: list[int]) -> dict[Owner, str]:
    """Recognise renamed dense layers by width and by order: key, query, energy, logits."""
    left = list(dense)
    named: dict[Owner, str] = {}
    for name, width in ((LOGITS, rows[0] if rows else None), (ENERGY, 1)):
        fits = [o for o in left if width in {shape[-1] for shape in dense[o].values() if shape}]
        if len(dense) == 4:  # none is missing or too many, so the order is that of the file
            fits = (fits or left)[-1:]
        if len(fits) == 1:
            named[fits[0]] = name
            left.remove(fits[0])
    return {**named, **dict(zip(left, (KEY, QUERY)))}
