"""Which radiographs are recognised as training studies after they were saved otherwise (docs/data.md).

    python benchmarks/recognised.py FOLDER

Each image of a folder is compared with itself in 8 instead of 12 bits, as JPEG and made smaller, and with all others.
12 bits are the means of 4 x 4 pixels of 8 bits.
"""

import argparse
from collections import Counter
from pathlib import Path

import cv2
import numpy as np

from xray_captioning.data.provenance import BLANK, _image_digests


def digests(image: np.ndarray) -> set[bytes]:
    """Return what an image (height, width), from 0 to 1, is recognised by."""
    return set(_image_digests(np.repeat(np.float32(image)[..., None], 3, axis=2))) - {BLANK}


def jpeg(image: np.ndarray, quality: int) -> np.ndarray:
    """Return an image of 8 bits as it is after it was saved as JPEG."""
    packed = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)


def main() -> None:
    """Print the shares that are recognised, and how many images are taken for another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    files = sorted(path for path in parser.parse_args().folder.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    found: Counter[str] = Counter()
    owners: dict[bytes, set[str]] = {}
    for file in files:
        image = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        rows, columns = (4 * (side // 4) for side in image.shape)
        sums = image[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).sum((1, 3))  # 12 bits
        small = cv2.resize(image, (224, 224), interpolation=cv2.INTER_AREA)
        known = digests(image / 255)
        found["8 of 12 bits"] += bool(digests(sums / 4080) & digests((sums // 16) / 255))
        found["JPEG of quality 95"] += bool(known & digests(jpeg(image, 95) / 255))
        found["JPEG of quality 75"] += bool(known & digests(jpeg(image, 75) / 255))
        found["224 pixels"] += bool(known & digests(small / 255))
        for one in known:
            owners.setdefault(one, set()).add(file.name)
    print(f"| changed to | recognised of {len(files):,} |\n| --- | --- |")
    for name, number in found.items():
        print(f"| {name} | {100 * number / len(files):.1f} % |")
    shared = {name for names in owners.values() if len(names) > 1 for name in names}
    print(f"| nothing: taken for another | {len(shared)} images |")


if __name__ == "__main__":
    main()
