"""What others bring beside images and captions: published tables, DICOM headers, configurations, lists of downloads."""

import gzip
import json
from functools import cache, partial
from pathlib import Path

from tests.fuzz import inputs
from tests.fuzz.harness import Harness, Target, as_file, own_folder

# The table that is damaged, by the name of a layout; what else there is stays whole.
TABLES = {
    "kaggle": "indiana_reports.csv",
    "mimic": "mimic_cxr_sectioned.csv",
    "chexpert": "train.csv",
    "chexpert_plus": "df_chexpert_plus_240401.csv",
    "padchest": "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
    "vindr": "annotations/image_labels_train.csv",
    "nih14": "Data_Entry_2017.csv",
    "roco": "train/radiology/captions.txt",
    "roco2": "train_captions.csv",
    "coco": "annotations/captions_train2014.json",
    "r2gen_mimic": "mimic_annotation.json",
}


@cache
def _layout(name: str) -> Path:
    """Return the folder of a collection of three studies."""
    from tests.data.sources.layouts import WRITERS, Made

    (folder := own_folder() / name).mkdir()
    texts = (" ".join(text.split()) for text in inputs.TEXTS)
    parts = zip(range(1, 4), ("train", "train", "test"), texts)
    made = [Made(n, n + 6, split=part, findings=text, impression="Normal.") for n, part, text in parts]
    WRITERS[name][0](folder, made)
    return folder


def collection(name: str) -> Target:
    def read(data: bytes) -> None:
        from tests.data.sources.layouts import WRITERS
        from xray_captioning.data.sources.reading import read_studies

        path = _layout(name) / TABLES[name]
        path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)
        found = read_studies(_layout(name), source=WRITERS[name][1], need_images=False)
        assert found["study_id"].is_unique
        assert set(found["split"]) <= {None, "train", "val", "test"}
        assert {view for views in found["views"] for view in views} <= {"frontal", "lateral", "unknown"}
        assert all(isinstance(label, str) for labels in found["problems"] for label in labels)

    return read


def tables(name: str) -> list[bytes]:
    data = (_layout(name) / TABLES[name]).read_bytes()
    return [gzip.decompress(data) if TABLES[name].endswith(".gz") else data]


def header(data: bytes) -> None:
    """What groups DICOM files into studies; of the patient there is a digest only."""
    from xray_captioning.data.dicom.reading import read_header

    found = read_header(as_file("1.dcm", data))
    assert found is None or all(isinstance(value, str) for value in found.values())


def network(data: bytes) -> None:
    """The configuration of a published image encoder, as transformers saves it."""
    from xray_captioning.config import Config
    from xray_captioning.encoders.saved import adopted

    (folder := own_folder() / "network").mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(data)
    found = adopted(Config().replace({"model.encoder": "mine"}), folder)
    assert 1 <= found.image.size <= 4096


def networks() -> list[bytes]:
    vit = {
        "model_type": "dinov2",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 56,
    }
    clip = {
        "model_type": "clip",
        "vision_config": {"model_type": "clip_vision_model", "image_size": 64, "patch_size": 16},
    }
    return [json.dumps(one).encode() for one in (vit | {"patch_size": 14}, clip)]


def processor(data: bytes) -> None:
    """How an image processor of transformers makes its square."""
    from xray_captioning.config import Config
    from xray_captioning.encoders.saved import adopted

    (folder := own_folder() / "processor").mkdir(exist_ok=True)
    (folder / "config.json").write_bytes(networks()[0])
    (folder / "preprocessor_config.json").write_bytes(data)
    found = adopted(Config().replace({"model.encoder": "mine"}), folder)
    assert 1 <= found.image.size <= 4096


def processors() -> list[bytes]:
    vit = {"image_processor_type": "ViTImageProcessor", "size": {"height": 56, "width": 56}, "resample": 2}
    bit = {
        "image_processor_type": "BitImageProcessor",
        "size": {"shortest_edge": 64},
        "crop_size": {"height": 56, "width": 56},
    }
    means = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.25, 0.25], "rescale_factor": 1 / 255}
    return [json.dumps(one | means).encode() for one in (vit, bit | {"do_center_crop": True, "resample": 3})]


def downloads(data: bytes) -> None:
    """A list of what can be fetched."""
    from xray_captioning.hub.fetch import read_registry

    for name, entry in read_registry(as_file("registry.json", data)).items():
        assert isinstance(name, str)
        assert all(Path(file.name).name == file.name for file in entry.files)


def registries() -> list[bytes]:
    from xray_captioning.files import shipped_folder

    return [(shipped_folder() / "registry.json").read_bytes()]


HARNESSES: dict[str, Harness] = {
    **{name: Harness(collection(name), partial(tables, name), 6) for name in TABLES},
    "header": Harness(header, inputs.dicoms, 2),
    "network": Harness(network, networks, 2),
    "processor": Harness(processor, processors, 2),
    "downloads": Harness(downloads, registries),
}
