"""How long reading tables of studies takes, and how much memory, also beside another checkout.

    python benchmarks/reading.py                            # made-up captions table, 400,000 rows
    python benchmarks/reading.py --against ../before        # side by side with another checkout
    python benchmarks/reading.py --iu ../shared/data/iu     # and Open-i's reports, Kaggle's tables

Each reading is a process of its own, timed in seconds of the CPU, in which other programs count for
less. Checkouts take turns, because the machine may be slower in one minute than in the next; the
shortest time and the most memory of each are printed.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
ARCHIVE = "ecgen-radiology.tgz"
PHRASES = ("the heart is", "normal in size", "the lungs are clear", "no effusion", "mild left opacity")
READ = """
import sys
import time
from resource import RUSAGE_SELF, getrusage

import pandas

from xray_captioning import read_studies

start = time.process_time()
studies = read_studies(sys.argv[1])
print(len(studies), time.process_time() - start, getrusage(RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--iu", type=Path, metavar="DIR", help="with Open-i's .tgz, Kaggle's tables")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout of this")
    given = parser.parse_args()
    checkouts = [CHECKOUT] + ([given.against.resolve()] if given.against else [])
    print("| source | studies | CPU s | MiB | CPU s before | MiB before | ratio |")
    print(f"|{' --- |' * 7}")
    with tempfile.TemporaryDirectory() as folder:
        for name, path in sources(Path(folder), given.rows, given.iu):
            print(f"| {name} | {report(path, checkouts, given.turns)} |", flush=True)


def sources(folder: Path, rows: int, iu: Path | None) -> Iterator[tuple[str, Path]]:
    """Yield what is read."""
    yield "captions, an image a row", write_captions(folder / "images", rows, 1)
    yield "captions, two images a study", write_captions(folder / "studies", rows, 2)
    if iu:
        yield "Kaggle's tables", iu
        yield "Open-i's archive", iu / ARCHIVE


def write_captions(folder: Path, rows: int, images: int) -> Path:
    """Write captions.csv with so many rows, of which each study has some."""
    rng = random.Random(7)
    (folder / "images").mkdir(parents=True)
    with open(folder / "captions.csv", "w") as file:
        file.write("study_id,image,caption,patient_id\n" if images > 1 else "image,caption\n")
        for row in range(rows):
            text = f"{row}.png,{' '.join(rng.choices(PHRASES, k=6))}."
            study = row // images
            file.write(f"s{study},{text},p{study // 3}\n" if images > 1 else f"{text}\n")
    return folder


def report(path: Path, checkouts: list[Path], turns: int) -> str:
    """Return the cells of a row: the shortest time and the most memory of each checkout."""
    found = {checkout: list[list[float]]() for checkout in checkouts}
    for _ in range(turns):
        for checkout in checkouts:
            found[checkout].append(read(checkout, path))
    best = [(min(s for _, s, _ in runs), max(m for *_, m in runs)) for runs in found.values()]
    cells = [f"{found[CHECKOUT][0][0]:.0f}"]
    cells += [f"{seconds:.2f} | {memory:.0f}" for seconds, memory in best]
    return " | ".join([*cells, f"{best[0][0] / best[1][0]:.2f}" if best[1:] else "- | - | -"])


def read(checkout: Path, path: Path) -> list[float]:
    """Return the number of studies, the seconds and the MiB that a checkout reads them in."""
    command = [sys.executable, "-c", READ, str(path.resolve())]  # it imports from where it starts
    run = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True)
    return [float(number) for number in run.stdout.split()]


if __name__ == "__main__":
    main()
