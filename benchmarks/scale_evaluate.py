"""Evaluation of very many texts, for `scale.py evaluate`, and scores beside pycocoevalcap's.

    python benchmarks/scale.py evaluate --rows 1000000      # beside a tenth of them; minutes on one core
    python benchmarks/scale.py evaluate --peers             # 20,000 pairs: pip install pycocoevalcap

Reports are made up: sentences of phantoms' reports, of which one in five has a word exchanged or twice; some are
left out, or in another order. Captions are made of the same report, or of another one, in the same way. Two
studies are of one patient, on average. Data are Parquet: the reports one file, the captions a folder of partitions.
"""

import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from xray_captioning.metrics.scores import score
from xray_captioning.phantom.studies import sample_study
from xray_captioning.phantom.wording import report

KINDS, TRAINING, PARTITIONS = 3_000, 2_000, 8
Texts = list[str]


def made_up(rows: int, seed: int = 0) -> tuple[Texts, Texts]:
    """Return reports and captions of the same made-up studies."""
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    texts = [report(sample_study(rng), rng)["findings"] for _ in range(KINDS)]
    kinds = [[f"{sentence.rstrip('.')}." for sentence in text.split(". ")] for text in texts]
    words = sorted({word for text in texts for word in text.split()})
    asked = [draw.choice(kinds) for _ in range(rows)]
    captions = [_edited(own if draw.random() < 0.5 else draw.choice(kinds), words, draw) for own in asked]
    return [_edited(own, words, draw) for own in asked], captions


def _edited(sentences: Texts, words: Texts, draw: random.Random) -> str:
    kept = [_changed(one, words, draw) if draw.random() < 0.2 else one for one in sentences if draw.random() > 0.05]
    if draw.random() < 0.3:
        draw.shuffle(kept)
    return " ".join(kept or sentences)


def _changed(sentence: str, words: Texts, draw: random.Random) -> str:
    own = sentence.split()
    place = draw.randrange(len(own))
    own[place] = draw.choice(words) if draw.random() < 0.6 else f"{own[place]} {own[place]}"
    return " ".join(own)


def write(folder: Path, rows: int) -> list[str]:
    """Write so many studies to test, and some to train; return the options that name them."""
    import pyarrow
    from pyarrow import parquet

    reports, captions = made_up(rows + TRAINING)
    ids = [f"s{number:07}" for number in range(len(reports))]
    patients = [f"p{number % (rows // 2)}" if number >= TRAINING else f"t{number}" for number in range(len(ids))]
    parts = ["train"] * TRAINING + ["test"] * rows
    columns = {"study_id": ids, "patient_id": patients, "split": parts, "image": ids, "findings": reports}
    parquet.write_table(pyarrow.table(columns), folder / "reports.parquet")
    (folder / "captions").mkdir()
    for part in range(PARTITIONS):
        own = slice(TRAINING + part, None, PARTITIONS)
        table = pyarrow.table({"study_id": ids[own], "made_up": captions[own]})
        parquet.write_table(table, folder / "captions" / f"part-{part}.parquet")
    return ["--data", str(folder / "reports.parquet"), "--captions", str(folder / "captions")]


def scale(rows: int) -> None:
    """Print how long `evaluate` takes of a tenth of the rows and of all, and its memory."""
    print("| rows | s of a processor | µs a row | peak memory, MiB |\n| --- | --- | --- | --- |")
    each = []
    for number in (rows // 10, rows):
        with tempfile.TemporaryDirectory() as name:
            line = [sys.executable, __file__, "run", *write(Path(name), number), "--out", f"{name}/results"]
            found = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
        seconds, memory = map(float, found[-2:])
        each.append(seconds / number)
        print(f"| {number:,} | {seconds:.0f} | {1e6 * each[-1]:.0f} | {memory:.0f} |", flush=True)
    print(f"\na row of the larger set takes {each[1] / each[0]:.2f} times as long")


def run(arguments: list[str]) -> None:
    """Evaluate in this process; print the seconds of a processor and the peak memory last."""
    from xray_captioning.cli import main

    sys.argv = ["xray-captioning", "evaluate", *arguments]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
    unit = 1024**2 if sys.platform == "darwin" else 1024  # of ru_maxrss
    print(time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


def peers(rows: int = 20_000, turns: int = 2) -> None:
    """Print how long BLEU, ROUGE-L and CIDEr of so many pairs take here and by pycocoevalcap, in turns."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    reports, captions = made_up(rows)
    known, said = ({row: [text] for row, text in enumerate(column)} for column in (reports, captions))
    seconds: list[list[float]] = [[], []]
    for _ in range(turns):
        begun = time.process_time()
        found = score(reports, captions)
        middle = time.process_time()
        theirs = [*Bleu(4).compute_score(known, said, verbose=0)[0]]
        theirs += [peer.compute_score(known, said)[0] for peer in (Rouge(), Cider())]
        seconds[0].append(middle - begun)
        seconds[1].append(time.process_time() - middle)
    assert np.allclose(list(found.values()), theirs, atol=1e-9), "scores differ"
    here, there = map(min, seconds)
    print(f"{rows:,} pairs: here {here:.2f} s, pycocoevalcap {there:.2f} s: {there / here:.1f} times; the same scores")


if __name__ == "__main__":
    run(sys.argv[2:])
