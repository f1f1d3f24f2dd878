"""Features of published encoders here and by the libraries that publish them, from the same files.

Each network gets random weights there, which are saved as that library saves them and read here;
images of 8 bits, wide, high, small and in colour, are read, resized and encoded on both sides.
Printed is the largest difference over the largest feature. Needs PyTorch and the libraries of the
table, of which those that are absent are left out:

    python benchmarks/parity.py
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ((301, 260), (240, 333), (100, 90), (600, 600))
Array = np.ndarray[Any, Any]
# Where the weights are, features (images, rows, columns, channels), and probabilities (images,
# outputs) where the library gives any.
Parity = tuple[Path, Array, Array | None]


def pictures(folder: Path) -> list[str]:
    """Write images with structure at every scale, the second in colour, and return their paths."""
    import cv2

    rng, paths = np.random.default_rng(0), []
    for number, (height, width) in enumerate(SHAPES):
        coarse = cv2.resize(rng.random((9, 7)), (width, height), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(coarse * 255 + rng.normal(0, 12, (height, width)), 0, 255)
        paths.append(str(folder / f"{number}.png"))
        if number == 1:
            pixels = np.stack([pixels, pixels[::-1], 255 - pixels], axis=-1)
        cv2.imwrite(paths[-1], pixels.astype(np.uint8))
    return paths


def randomised(module: Any) -> Any:
    """Give a module weights, and statistics of its normalisations, that are not the usual ones."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, values in module.state_dict().items():
            noise = torch.rand(values.shape, generator=generator)
            if name.endswith("running_var"):
                values.copy_(0.5 + noise)
            elif values.ndim == 1 and values.dtype.is_floating_point:
                values.add_(0.2 * (noise - 0.5))
    return module.eval()


def torchxrayvision_densenet(folder: Path, paths: list[str]) -> Parity:
    """A whole module, as its own files are, and what its ``features`` are after the last ReLU."""
    import torch
    import torchxrayvision as xrv

    torch.manual_seed(0)
    module, pixels = randomised(xrv.models.DenseNet()), _xrv(paths, 224)
    with torch.no_grad():
        module.classifier.weight /= module(pixels).std()  # or each probability would be 0 or 1
        torch.save(module, folder / "w.pt")
        module.op_threshs = _operating_points("densenet121-res224-all")
        shares = module(pixels).numpy()
    return folder / "w.pt", _maps(lambda x: torch.relu(module.features(x)), pixels), shares


def torchxrayvision_resnet(folder: Path, paths: list[str]) -> Parity:
    """A state dict of torchvision's network for one channel, as `torchxrayvision.models.ResNet`."""
    import torch
    import torchvision
    from torchxrayvision.models import op_norm

    torch.manual_seed(0)
    module = torchvision.models.resnet50(num_classes=18)
    module.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    pixels, points = _xrv(paths, 512), _operating_points("resnet50-res512-all")
    with torch.no_grad():
        spread = randomised(module)(pixels).std()
        module.fc.weight /= spread  # or every probability would be 0 or 1
        torch.save(module.state_dict(), folder / "w.pt")
        shares = op_norm(torch.sigmoid(module(pixels)), points).numpy()
    return folder / "w.pt", _maps(_resnet(module), pixels), shares


def torchvision_densenet(folder: Path, paths: list[str]) -> Parity:
    """A state dict."""
    import torch
    import torchvision

    module = randomised(torchvision.models.densenet121())
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = _torchvision(paths, torchvision.models.DenseNet121_Weights.IMAGENET1K_V1)
    return folder / "w.pt", _maps(lambda x: torch.relu(module.features(x)), pixels), None


def torchvision_resnet(folder: Path, paths: list[str]) -> Parity:
    """A state dict."""
    import torch
    import torchvision

    module = randomised(torchvision.models.resnet50())
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = _torchvision(paths, torchvision.models.ResNet50_Weights.IMAGENET1K_V1)
    return folder / "w.pt", _maps(_resnet(module), pixels), None


def transformers_folder(
    model: str, config: dict[str, Any], processor: str, images: dict[str, Any], before: int
) -> Callable[[Path, list[str]], Parity]:
    """A folder as ``save_pretrained`` writes it, and the patch tokens in their places.

    `before` them are a class token and registers. Pixels are those of the newest processor, which
    is torchvision's.
    """

    def run(folder: Path, paths: list[str]) -> Parity:
        import torch
        import transformers
        from PIL import Image

        torch.manual_seed(0)
        kind = getattr(transformers, model)
        module = randomised(kind(kind.config_class(**config)))
        prepare = getattr(transformers, processor)(**images)
        module.save_pretrained(folder)
        prepare.save_pretrained(folder)
        tower = next((m for n, m in module.named_children() if n in _TOWERS), module)
        given = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
        pixels = prepare(given, return_tensors="pt")["pixel_values"]

        def grid(x: Any) -> Any:
            return _grid(tower(pixel_values=x).last_hidden_state[:, before:])

        return folder, _maps(grid, pixels), None

    return run


_TOWERS = ("vision_model", "vit", "dinov2")


def open_clip_tower(
    config: dict[str, Any], tokens: Callable[[Any, Any], Any], pixels: Callable[[list[str]], Any]
) -> Callable[[Path, list[str]], Parity]:
    """A state dict of a whole model of open_clip, of which only the image tower is there."""

    def run(folder: Path, paths: list[str]) -> Parity:
        import torch
        from open_clip.model import _build_vision_tower

        torch.manual_seed(0)
        module = randomised(_build_vision_tower(512, **config))
        arrays = {f"visual.{name}": values for name, values in module.state_dict().items()}
        torch.save({**arrays, "logit_scale": torch.ones(())}, folder / "w.pt")
        return folder / "w.pt", _maps(lambda x: _grid(tokens(module, x)), pixels(paths)), None

    return run


def _clip_tokens(module: Any, x: Any) -> Any:
    """The last block's tokens, before the normalisation that CLIP applies to the class token."""
    kept = []
    hook = module.transformer.register_forward_hook(lambda *call: kept.append(call[2]))
    module(x)
    hook.remove()
    return kept[0][:, 1:]


def _open_clip_pixels(paths: list[str]) -> Any:
    import torch
    from open_clip.transform import image_transform
    from PIL import Image

    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    prepare = image_transform(224, is_train=False, mean=mean, std=deviation)
    return torch.stack([prepare(Image.open(path)) for path in paths])


def _chexzero_pixels(paths: list[str]) -> Any:
    """Pixels as CheXzero's ``data_process.py`` stores and ``zero_shot.py`` reads them."""
    import torch
    from PIL import Image
    from torchvision.transforms import InterpolationMode, Normalize, Resize

    images = []
    for path in paths:
        image = Image.open(path)
        width, height = (int(n * 320 / max(image.size)) for n in image.size)
        square = Image.new("L", (320, 320))
        place = ((320 - width) // 2, (320 - height) // 2)
        square.paste(image.resize((width, height), Image.Resampling.LANCZOS), place)
        images.append(np.repeat(np.float32(square)[None], 3, 0))
    scaled = Normalize([101.48761] * 3, [83.43944] * 3)(torch.from_numpy(np.stack(images)))
    return Resize(224, interpolation=InterpolationMode.BICUBIC)(scaled)


def _grid(tokens: Any) -> Any:
    side = round(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def lite(folder: Path, paths: list[str]) -> Parity:
    """A state dict of the PyTorch port; it says nothing of resizing, which is OpenCV's here."""
    import cv2
    import efficientnet_lite_pytorch as port
    import torch

    module = randomised(port.EfficientNet.from_name("efficientnet-lite0", image_size=224))
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = []
    for path in paths:
        image = cv2.imread(path)[..., ::-1]
        how = cv2.INTER_AREA if min(image.shape[:2]) >= 224 else cv2.INTER_LINEAR
        pixels.append((cv2.resize(image, (224, 224), interpolation=how) - 127.0) / 128)
    images = torch.from_numpy(np.stack(pixels).astype(np.float32).transpose(0, 3, 1, 2))
    return folder / "w.pt", _maps(module.extract_features, images), None


def _operating_points(name: str) -> Any:
    import torch
    from torchxrayvision.models import model_urls

    return torch.tensor(model_urls[name]["op_threshs"])


def _xrv(paths: list[str], size: int) -> Any:
    """Pixels as torchxrayvision's README prepares them."""
    import torch
    from torchxrayvision import datasets, utils

    steps = (datasets.XRayCenterCrop(), datasets.XRayResizer(size))
    images = []
    for path in paths:
        image = utils.load_image(path)
        for step in steps:
            image = step(image)
        images.append(image)
    return torch.from_numpy(np.stack(images))


def _torchvision(paths: list[str], weights: Any) -> Any:
    import torch
    from PIL import Image

    prepare = weights.transforms()
    return torch.stack([prepare(Image.open(path).convert("RGB")) for path in paths])


def _resnet(module: Any) -> Callable[[Any], Any]:
    import torch

    return torch.nn.Sequential(*list(module.children())[:-2]).eval()


def _maps(network: Callable[[Any], Any], pixels: Any) -> Array:
    import torch

    with torch.no_grad():
        return network(pixels).numpy().transpose(0, 2, 3, 1)


def _bit(short: int, size: int) -> dict[str, Any]:
    return {
        "size": {"shortest_edge": short},
        "crop_size": {"height": size, "width": size},
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
    }


_RAD_DINO = _bit(518, 518) | {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}
_SMALL = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 518}
_SO400M = {"hidden_size": 1152, "num_attention_heads": 16, "intermediate_size": 4304}
_SO400M |= {"patch_size": 14, "image_size": 448, "num_hidden_layers": 2}
_TIMM = {"timm_model_name": "vit_base_patch16_224", "timm_pool": "", "timm_proj": "linear"}
_OPENAI = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
ROWS: dict[str, tuple[str, str, Callable[[Path, list[str]], Parity]]] = {
    "densenet121-res224-all": ("torchxrayvision", "DenseNet", torchxrayvision_densenet),
    "resnet50-res512-all": ("torchxrayvision", "ResNet", torchxrayvision_resnet),
    "rad-dino": (
        "transformers",
        "Dinov2Model",
        transformers_folder("Dinov2Model", {"image_size": 518}, "BitImageProcessor", _RAD_DINO, 1),
    ),
    "facebook/dinov2-small": (
        "transformers",
        "Dinov2Model",
        transformers_folder("Dinov2Model", _SMALL, "BitImageProcessor", _bit(256, 224), 1),
    ),
    "facebook/dinov2-with-registers-base": (
        "transformers",
        "Dinov2WithRegistersModel",
        transformers_folder("Dinov2WithRegistersModel", {"image_size": 518}, "BitImageProcessor", _bit(256, 224), 5),
    ),
    "google/siglip-base-patch16-224": (
        "transformers",
        "SiglipVisionModel",
        transformers_folder("SiglipVisionModel", {}, "SiglipImageProcessor", {}, 0),
    ),
    "medsiglip-448": (
        "transformers",
        "SiglipVisionModel, 2 of 27 blocks",
        transformers_folder(
            "SiglipVisionModel", _SO400M, "SiglipImageProcessor", {"size": {"height": 448, "width": 448}}, 0
        ),
    ),
    "openai/clip-vit-base-patch32": (
        "transformers",
        "CLIPModel",
        transformers_folder(
            "CLIPModel", {"text_config": {"num_hidden_layers": 1, "vocab_size": 100}}, "CLIPImageProcessor", {}, 1
        ),
    ),
    "google/vit-base-patch16-224-in21k": (
        "transformers",
        "ViTForImageClassification",
        transformers_folder("ViTForImageClassification", {}, "ViTImageProcessor", {}, 1),
    ),
    "biomedclip": (
        "open_clip",
        "the image tower of CustomTextCLIP",
        open_clip_tower(
            {"vision_cfg": _TIMM}, lambda module, x: module.trunk.forward_features(x)[:, 1:], _open_clip_pixels
        ),
    ),
    "chexzero": (
        "open_clip",
        "ViT-B-32-quickgelu",
        open_clip_tower({"vision_cfg": _OPENAI, "quick_gelu": True}, _clip_tokens, _chexzero_pixels),
    ),
    "efficientnet_lite0": ("efficientnet_lite_pytorch", "EfficientNet", lite),
    "torchvision-densenet121": ("torchvision", "densenet121", torchvision_densenet),
    "torchvision-resnet50": ("torchvision", "resnet50", torchvision_resnet),
}


def differences(name: str) -> list[float]:
    """Return the largest difference over the largest feature, and of probabilities, if any."""
    from xray_captioning.encoders.encoding import study_encoder

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = pictures(Path(folder))
        weights, wanted, shares = ROWS[name][2](Path(folder), paths)
        encode, _ = study_encoder(1, name, str(weights))
        encoded = encode([[path] for path in paths])
        found = [float(np.abs(encoded["regions"][:, 0] - wanted).max() / np.abs(wanted).max())]
        if shares is not None:
            found.append(float(np.abs(encoded["probabilities"][:, 0] - shares).max()))
    return found


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| encoder | library | features | probabilities |"
    yield "| --- | --- | --- | --- |"
    for name, (library, network, _) in ROWS.items():
        try:
            module = import_module(library)
        except ImportError:
            yield f"| `{name}` | {library} is not installed | | |"
            continue
        version = f"{library} {getattr(module, '__version__', '')}"
        found = [f"{value:.1e}" for value in differences(name)]
        yield f"| `{name}` | {version}, {network} | {' | '.join([*found, ''][:2])} |"


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
