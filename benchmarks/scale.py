"""Many studies by Ray's workers: how fast, after random kills, with how much memory, and a plan.

    python benchmarks/scale.py speed                        # 2,000 phantom studies of two views
    python benchmarks/scale.py speed --untrained chexnet_attention --studies 200
    python benchmarks/scale.py kills --count 10 --seed 0 --studies 1000 --runtime onnx
    python benchmarks/scale.py kills --partition 128        # a folder of partitions of so many studies
    python benchmarks/scale.py driver --sizes 1000 10000 100000
    python benchmarks/scale.py evaluate --rows 1000000      # of texts: see scale_evaluate.py
    python benchmarks/scale.py evaluate --peers
    python benchmarks/scale.py plan --cpu-node 16 1.00 --gpu-node 16 2000 4.00   # prices are yours

`speed` captions the same studies into a file each way: one process with all threads of the
processor, one worker with one thread, two workers with one thread each; in turns, the best of
--turns counts. Tables are compared. `kills` kills the driver or a worker after a random share of
the time; a killed driver's command is repeated with --resume until the table, or the folder, is
there. `driver` measures the largest memory of the process that was started, of tables that name a
tiny image a study, captioned into a folder of partitions. `plan` measures what a study costs in each
stage, checks the sum against a run with two workers, and says what --studies would take on nodes of
so many cores (for GPUs, and so many studies a second that one encodes and captions) at so much an
hour.
"""

import argparse
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import scale_evaluate
from serving import untrained

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.phantom.dataset import write_phantoms

WAYS = {
    "one process": [],
    "one worker": ["--engine", "ray", "--workers", "1"],
    "two workers": ["--engine", "ray", "--workers", "2"],
}
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"), "1")
FEW = 128  # studies of the run that tells how long a start takes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for run in (speed, kills, driver, evaluate, plan, stages):
        command = commands.add_parser(run.__name__)
        command.set_defaults(run=run)
        command.add_argument("--studies", type=int, default=10_000_000 if run is plan else 2000)
        command.add_argument("--bundle", default="phantom_attention")
        command.add_argument("--untrained", metavar="PRESET", help="a bundle of random weights instead")
        command.add_argument("--runtime", default="keras" if run is speed else "onnx")
        command.add_argument("--data", type=Path, help="studies, instead of phantoms")
        if run is speed:
            command.add_argument("--turns", type=int, default=2)
        if run is kills:
            command.add_argument("--count", type=int, default=10)
            command.add_argument("--seed", type=int, default=0)
            command.add_argument("--partition", type=int, help="studies of each; without it a .csv is written")
        if run is driver:
            command.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
        if run is evaluate:
            command.add_argument("--rows", type=int, default=1_000_000)
            command.add_argument("--peers", action="store_true", help="beside pycocoevalcap")
        if run is plan:
            command.add_argument("--measured", type=int, default=2000, help="phantoms that are measured")
            command.add_argument("--cpu-node", type=float, nargs=2, metavar=("CORES", "PRICE"))
            command.add_argument("--gpu-node", type=float, nargs=3, metavar=("CORES", "STUDIES_PER_S", "PRICE"))
            command.add_argument("--nodes", type=int, nargs="+", default=[1, 10, 100])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.untrained:
            given.bundle = untrained(given.untrained, Path(folder) / given.untrained)
        given.run(given, Path(folder))


def phantoms(given: argparse.Namespace, folder: Path, studies: int) -> Path:
    """Return a folder of so many phantom studies, unless data are given."""
    if given.data:
        return given.data
    if not (data := folder / f"phantoms{studies}").exists():
        write_phantoms(data, studies=studies, seed=5)
    return data


def command(given: argparse.Namespace, data: Path) -> list[str]:
    """Return the command that captions data, but for --out."""
    program = ["-m", "xray_captioning"]
    if size := getattr(given, "partition", None):
        set_size = f"from xray_captioning.batch import partitions; partitions.STUDIES = {size}"
        program = ["-c", f"{set_size}; import sys; from xray_captioning.cli import main; sys.exit(main())"]
    line = [sys.executable, *program, "caption", "--data", str(data)]
    return [*line, "--bundle", str(given.bundle), "--runtime", given.runtime]


def captioned(line: list[str], way: str, out: Path) -> float:
    """Caption in one of the ways; return the seconds of the whole command."""
    threads, begun = ONE_THREAD if way == "one worker" else {}, time.monotonic()
    subprocess.run([*line, *WAYS[way], "--out", out], check=True, capture_output=True, env=os.environ | threads)
    return time.monotonic() - begun


# --- how fast ---


def speed(given: argparse.Namespace, folder: Path) -> None:
    """Caption each way, and compare the tables."""
    line = command(given, phantoms(given, folder, given.studies))
    seconds, tables = {way: [] for way in WAYS}, []
    for turn in range(given.turns):
        for way in WAYS:
            out = folder / f"{way}{turn}.csv"
            seconds[way].append(captioned(line, way, out))
            tables.append(out.read_bytes())
    print("| way | s, whole command | studies/s |\n| --- | --- | --- |")
    for way, found in seconds.items():
        print(f"| {way} | {min(found):.1f} | {given.studies / min(found):.1f} |")
    print(f"\n{compared(tables)}")


def compared(tables: list[bytes]) -> str:
    """Say whether tables are the same, or how many rows and captions of them are not."""
    if len(set(tables)) == 1:
        return "the tables are the same, byte for byte"
    rows, texts = 0, 0
    for found in zip(*(csv.DictReader(io.StringIO(table.decode())) for table in tables), strict=True):
        rows += any(row != found[0] for row in found)
        texts += any(row["caption"] != found[0]["caption"] for row in found)
    return f"{rows} rows differ in a digit, {texts} in their caption"


# --- kills ---


def kills(given: argparse.Namespace, folder: Path) -> None:
    """Kill runs at random moments, go on with them, and compare their tables with a whole one."""
    line = command(given, phantoms(given, folder, given.studies))
    ending = "" if given.partition else ".csv"
    captioned(line, "one process", whole := folder / f"whole{ending}")
    usual = captioned(line, "two workers", folder / f"usual{ending}")
    for number in range(given.count):
        kill(line, folder / f"killed{number}{ending}", random.Random(f"{given.seed} {number}"), usual, content(whole))


def content(out: Path) -> dict[str, bytes]:
    """Return what a file, or each of a folder, holds."""
    return {path.name: path.read_bytes() for path in out.iterdir()} if out.is_dir() else {"": out.read_bytes()}


def kill(line: list[str], out: Path, draw: random.Random, usual: float, expected: dict[str, bytes]) -> None:
    """Kill the driver or a worker; print how the result compares with that of one process."""
    from xray_captioning.batch.caption_table import is_whole

    whom, after = draw.choice(["driver", "worker"]), draw.uniform(0.2, 0.9) * usual
    line = [*line, *WAYS["two workers"], "--out", str(out)]
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(after)
        for pid in [process.pid] if whom == "driver" else workers(process.pid)[:1]:
            os.kill(pid, signal.SIGKILL)
        process.wait()
    runs = 1
    while not is_whole(out):
        subprocess.run([*line, "--resume"], capture_output=True)
        runs += 1
    same = "the same" if content(out) == expected else "ANOTHER RESULT"
    print(f"{whom} after {after:.1f} s, {runs} runs, {len(expected)} files: {same}", flush=True)


def workers(driver: int) -> list[int]:
    """Return the processes below a driver that work on tasks, as Ray names them."""
    found = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in found]
    family, tasks = {driver}, []
    for _ in range(4):
        family |= {int(pid) for pid, parent, *_ in rows if int(parent) in family}
    tasks += [int(pid) for pid, _, args in rows if int(pid) in family and args.startswith("ray::_work")]
    return tasks


# --- texts ---


def evaluate(given: argparse.Namespace, _folder: Path) -> None:
    """Measure the evaluation of texts, or compare it with pycocoevalcap's."""
    scale_evaluate.peers() if given.peers else scale_evaluate.scale(given.rows)


# --- memory ---


def driver(given: argparse.Namespace, folder: Path) -> None:
    """Print the largest memory of the driver for tables of several sizes."""
    if not (data := folder / "tiny").exists():
        write_phantoms(data, studies=50, seed=5, size=64)
    images = sorted(data.glob("images/*/*.png"))
    print("| studies | driver, MiB | s |\n| --- | --- | --- |")
    for size in given.sizes:
        table = folder / f"{size}.csv"
        rows = (f"s{number},{named(images, number)},clear\n" for number in range(size))
        table.write_text("study_id,image,caption\n" + "".join(rows))
        line = [*command(given, table), *WAYS["two workers"], "--out", str(folder / f"out{size}")]
        begun, most = time.monotonic(), 0
        with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while process.poll() is None:
                most = max(most, status(process.pid, "VmHWM"))
                time.sleep(0.2)
        print(f"| {size} | {most / 2**20:.0f} | {time.monotonic() - begun:.0f} |", flush=True)


def named(images: list[Path], number: int) -> Path:
    """Return the path of one of few images under a name of its own."""
    path = images[0].parents[2] / f"p{number // 1000:05}" / f"study{number:08}_frontal.png"
    path.parent.mkdir(exist_ok=True)
    if not path.exists():
        path.hardlink_to(images[number % len(images)])
    return path


def status(pid: int | str, name: str) -> int:
    """Return bytes that the kernel counts of a process, 0 of one that has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


# --- what a study costs, and what many would ---


def stages(given: argparse.Namespace, folder: Path) -> None:
    """Print the seconds of a processor that each stage takes of a study, as JSON."""
    from xray_captioning.batch import caption_table, run
    from xray_captioning.bundles.bundle import find_bundle
    from xray_captioning.captioner.calibration import stated
    from xray_captioning.captioner.captioner import predict
    from xray_captioning.cli.caption import source_studies
    from xray_captioning.cli.options import Source
    from xray_captioning.runtime import open_captioner

    captioner = open_captioner(find_bundle(given.bundle), given.runtime)
    studies = list(source_studies(Source(phantoms(given, folder, given.studies)), captioner.config))
    batches = [studies[start : start + run.SIZE] for start in range(0, len(studies), run.SIZE)]
    list(run.captioned(captioner, iter(batches[:1])))  # compiles
    took, clock = dict.fromkeys(("decode", "encode", "search", "write"), 0.0), time.process_time
    with open(folder / "journal", "a+b") as file:
        for batch in batches:
            begun = clock()
            pixels = [run._read(study, captioner.config.image)[0] for study in batch]
            decoded = clock()
            features = captioner.features(pixels)
            encoded = clock()
            found = [stated(*one, False) for one in predict(captioner, features, None)]
            searched = clock()
            rows = [run._row(study, None) | run._result(*one) for study, one in zip(batch, found)]
            caption_table.append(file, rows)
            caption_table.write_rows(rows, folder / "rows.csv")
            ends = (begun, decoded, encoded, searched, clock())
            for name, start, end in zip(took, ends, ends[1:]):
                took[name] += end - start
    print(json.dumps({name: seconds / len(studies) for name, seconds in took.items()}))


def plan(given: argparse.Namespace, folder: Path) -> None:
    """Print what a study costs, how well that tells a run with two workers, and what many would take."""
    data, few = phantoms(given, folder, given.measured), phantoms(given, folder, FEW)
    line = [sys.executable, __file__, "stages", "--data", str(data), "--bundle", given.bundle]
    line += ["--runtime", given.runtime]
    told = subprocess.run(line, check=True, capture_output=True, text=True, env=os.environ | ONE_THREAD).stdout
    cost = json.loads(told.splitlines()[-1])
    print("| stage | ms of one processor a study |\n| --- | --- |")
    print("\n".join(f"| {name} | {1000 * seconds:.2f} |" for name, seconds in cost.items()))
    work = sum(cost.values()) - cost["write"]
    start = captioned(command(given, few), "two workers", folder / "few.csv") - FEW * sum(cost.values()) / 2
    took = captioned(command(given, data), "two workers", folder / "all.csv")
    # On this machine the process that writes shares two processors with the workers.
    expected = start + given.measured * sum(cost.values()) / 2
    print(
        f"\nstart: {start:.1f} s; {given.measured} studies, two workers: {expected:.1f} s expected, {took:.1f} s taken"
    )
    print(f"the model is off by {abs(expected / took - 1):.0%}")
    rates = {}
    if given.cpu_node:
        cores, price = given.cpu_node
        rates[f"{cores:.0f} processors"] = cores / work, price
    if given.gpu_node:
        cores, most, price = given.gpu_node
        rates[f"{cores:.0f} processors and a GPU"] = min(cores / cost["decode"], most), price
    print(f"\n{given.studies:,} studies; at most {1 / cost['write']:,.0f} a second, which one process writes\n")
    print("| node | nodes | hours | node-hours | money |\n| --- | --- | --- | --- | --- |")
    for node, (rate, price) in rates.items():
        for nodes in given.nodes:
            hours = (start + given.studies / min(nodes * rate, 1 / cost["write"])) / 3600
            print(f"| {node} | {nodes} | {hours:.1f} | {hours * nodes:,.1f} | {hours * nodes * price:,.2f} |")


if __name__ == "__main__":
    main()
