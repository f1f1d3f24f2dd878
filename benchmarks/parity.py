"""Features of published encoders here and by the libraries that publish them, from the same files.

Each network gets random weights there, which are saved as that library saves them and read here;
images of 8 bits, wide, high and small, are read, resized and encoded on both sides. Printed is the
largest difference over the largest feature. Needs PyTorch and the libraries of the table, of which
those that are absent are left out:

    python benchmarks/parity.py
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

SHAPES = ((301, 260), (240, 333), (100, 90), (600, 600))
Array = np.ndarray[Any, Any]


def pictures(folder: Path) -> list[str]:
    """Write grey images with structure at every scale, and return their paths."""
    import cv2

    rng, paths = np.random.default_rng(0), []
    for number, (height, width) in enumerate(SHAPES):
        coarse = cv2.resize(rng.random((9, 7)), (width, height), interpolation=cv2.INTER_CUBIC)
        pixels = np.clip(coarse * 255 + rng.normal(0, 12, (height, width)), 0, 255)
        paths.append(str(folder / f"{number}.png"))
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


def torchxrayvision_densenet(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A whole module, as its own files are, and what its ``features`` are after the last ReLU."""
    import torch
    import torchxrayvision as xrv

    module = randomised(xrv.models.DenseNet())
    torch.save(module, folder / "w.pt")
    return folder / "w.pt", _maps(lambda x: torch.relu(module.features(x)), _xrv(paths, 224))


def torchxrayvision_resnet(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A state dict of torchvision's network for one channel, as `torchxrayvision.models.ResNet`."""
    import torch
    import torchvision

    module = torchvision.models.resnet50(num_classes=18)
    module.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    torch.save(randomised(module).state_dict(), folder / "w.pt")
    return folder / "w.pt", _maps(_resnet(module), _xrv(paths, 512))


def torchvision_densenet(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A state dict."""
    import torch
    import torchvision

    module = randomised(torchvision.models.densenet121())
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = _torchvision(paths, torchvision.models.DenseNet121_Weights.IMAGENET1K_V1)
    return folder / "w.pt", _maps(lambda x: torch.relu(module.features(x)), pixels)


def torchvision_resnet(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A state dict."""
    import torch
    import torchvision

    module = randomised(torchvision.models.resnet50())
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = _torchvision(paths, torchvision.models.ResNet50_Weights.IMAGENET1K_V1)
    return folder / "w.pt", _maps(_resnet(module), pixels)


def transformers_dinov2(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A folder as ``save_pretrained`` writes it, and the patch tokens in their places.

    Pixels are Pillow's, with which the network was published; transformers' newer processor, by
    torchvision, gives up to 2 of 255 levels more or less.
    """
    import torch
    from PIL import Image
    from transformers import BitImageProcessorPil, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    module = randomised(Dinov2Model(Dinov2Config(image_size=518)))
    module.save_pretrained(folder)
    prepare = BitImageProcessorPil(
        size={"shortest_edge": 518},
        crop_size={"height": 518, "width": 518},
        image_mean=[0.5307] * 3,
        image_std=[0.2583] * 3,
    )
    images = [Image.open(path).convert("RGB") for path in paths]
    pixels = prepare(images, return_tensors="pt")["pixel_values"]

    def grid(x: Any) -> Any:
        tokens = module(x).last_hidden_state[:, 1:]
        return tokens.transpose(1, 2).unflatten(2, (37, 37))

    return folder, _maps(grid, pixels)


def lite(folder: Path, paths: list[str]) -> tuple[Path, Array]:
    """A state dict of the PyTorch port; it says nothing of resizing, which is OpenCV's here."""
    import cv2
    import efficientnet_lite_pytorch as port
    import torch

    module = randomised(port.EfficientNet.from_name("efficientnet-lite0", image_size=224))
    torch.save(module.state_dict(), folder / "w.pt")
    pixels = []
    for path in paths:
        image = cv2.imread(path)
        how = cv2.INTER_AREA if min(image.shape[:2]) >= 224 else cv2.INTER_LINEAR
        pixels.append((cv2.resize(image, (224, 224), interpolation=how) - 127.0) / 128)
    images = torch.from_numpy(np.stack(pixels).astype(np.float32).transpose(0, 3, 1, 2))
    return folder / "w.pt", _maps(module.extract_features, images)


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


ROWS: dict[str, tuple[str, str, Callable[[Path, list[str]], tuple[Path, Array]]]] = {
    "densenet121-res224-all": ("torchxrayvision", "DenseNet", torchxrayvision_densenet),
    "resnet50-res512-all": ("torchxrayvision", "ResNet", torchxrayvision_resnet),
    "rad-dino": ("transformers", "Dinov2Model", transformers_dinov2),
    "efficientnet_lite0": ("efficientnet_lite_pytorch", "EfficientNet", lite),
    "torchvision-densenet121": ("torchvision", "densenet121", torchvision_densenet),
    "torchvision-resnet50": ("torchvision", "resnet50", torchvision_resnet),
}


def difference(name: str) -> float:
    """Return the largest difference over the largest feature, with an encoder of the registry."""
    from xray_captioning.encoders.encoding import encode_files

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = pictures(Path(folder))
        weights, wanted = ROWS[name][2](Path(folder), paths)
        found = encode_files([[path] for path in paths], name, str(weights)).regions[:, 0]
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def rows() -> Iterator[str]:
    """Yield the lines of the table."""
    yield "| encoder | library | largest difference |"
    yield "| --- | --- | --- |"
    for name, (library, network, _) in ROWS.items():
        try:
            import_module(library)
        except ImportError:
            yield f"| `{name}` | {library} is not installed | |"
            continue
        version = f"{library} {metadata.version(library)}"
        yield f"| `{name}` | {version}, {network} | {difference(name):.1e} |"


if __name__ == "__main__":
    for line in rows():
        print(line, flush=True)
