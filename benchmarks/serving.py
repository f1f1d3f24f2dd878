"""The API under load on loopback: the server on two cores, its clients on the others.

    python benchmarks/serving.py                            # the shipped bundle, a minute each
    python benchmarks/serving.py --bundle runs/attention --requests 500
    python benchmarks/serving.py --untrained chexnet_attention --requests 0    # a large encoder
    python benchmarks/serving.py --seconds 10 --clients 64 --set queue=32   # see the 503s
    python benchmarks/serving.py --against ../before        # side by side with another checkout
    python benchmarks/serving.py --against ../before --starts 8 --seconds 0     # the starts alone

It starts the server itself, with batching and without, and prints what 16 clients got of each in
turns, each sending its next request as soon as it has the last answer. A third server has no model
and gives every study the same caption: what reading uploads and writing answers leaves room for.
With --against, the same three of another checkout of this project take part in the same turns.
The model by itself is timed first, from pixels to captions, some studies at a time, then starts of
the server with nothing else running, in turns, by the ``ready`` line of its log; and at the end
5,000 requests more show whether the memory of the process grows.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from timing import best_seconds

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from xray_captioning.bundles.bundle import find_bundle
from xray_captioning.phantom.dataset import write_phantoms

CHECKOUT = Path(__file__).resolve().parents[1]
TURNS = 12
SIZES = (1, 8, 16)  # studies the model is given at a time
COLUMNS = ("batching", "requests/s", "p50 ms", "p99 ms", "answered", "503", "failed")
COLUMNS += ("studies a batch", "CPU ms a request")
BOUNDARY = "boundary-of-the-benchmark"
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
SERVE = ["-m", "xray_captioning"]
NO_MODEL = """
from xray_captioning.cli import main
from xray_captioning.serving.engine import Engine

name = "_predict" if hasattr(Engine, "_predict") else "_read"  # in an older checkout
predict, first = getattr(Engine, name), []

def repeat(self, beam_size, studies, *context):
    first[:] = first or predict(self, beam_size, studies)[:1]
    return first * len(studies)

setattr(Engine, name, repeat)
main()
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="phantom_attention")
    parser.add_argument("--untrained", metavar="PRESET", help="a bundle of random weights instead")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=5000, help="For memory; 0 leaves it out.")
    parser.add_argument("--starts", type=int, default=4, help="of each server, for its start")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout of this")
    parser.add_argument("--set", dest="limits", action="append", default=[], metavar="LIMIT=N")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_phantoms(Path(folder) / "phantom", studies=20, seed=5)
        uploads = studies(Path(folder) / "phantom")
        if given.untrained:
            given.bundle = untrained(given.untrained, Path(folder) / given.untrained)
        given.bundle = str(find_bundle(given.bundle).resolve())  # the same one for both checkouts
        alone = get_context("spawn").Process(target=model_alone, args=(given.bundle, uploads))
        alone.start()
        alone.join()
        assert alone.exitcode == 0, "the model could not be timed"
        measure(given, [form(files) for files in uploads])


def model_alone(bundle: str, uploads: list[list[bytes]]) -> None:
    """Print how long the model takes for a study, by itself and among others, without a server."""
    pin((0, 1))
    from xray_captioning import Captioner
    from xray_captioning.data.images import read_images

    captioner = Captioner.load(bundle)
    image = captioner.config.image
    pixels = [[*read_images(files, image.size, image.resize)] for files in uploads]

    def read(count: int) -> None:
        captioner.caption_features(captioner.features(pixels[:count]))

    print("| studies at a time | ms a study |\n| --- | --- |")
    for count, seconds in zip(SIZES, best_seconds(30, *(partial(read, count) for count in SIZES))):
        print(f"| {count} | {1000 * seconds / count:.2f} |")
    print(flush=True)


def measure(given: argparse.Namespace, bodies: list[bytes]) -> None:
    """Time starts, load the server with and without batching, then once more for its memory."""
    pin(range(2, os.cpu_count() or 1))
    # In turns: the machine may be slower in one minute than in the next.
    servers: dict[str, tuple[Path, list[str], list[str]]] = {}
    for kind, options in kinds(given.limits).items():
        servers[kind] = (CHECKOUT, *options)
        if given.against:
            servers[f"{kind}, {given.against.name}"] = (given.against.resolve(), *options)
    starts(given.bundle, servers, given.starts)
    if not given.seconds:
        return
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    found = {name: (Counter(), [], []) for name in servers}
    with ExitStack() as stack:
        begun = {n: stack.enter_context(server(given.bundle, *servers[n])) for n in found}
        idle = {name: cpu_seconds(pid) for name, (_, pid) in begun.items()}
        for _ in range(TURNS):
            for name, (port, _) in begun.items():
                statuses, *times = load(port, bodies, given.clients, given.seconds / TURNS)
                found[name][0].update(statuses)
                for all_turns, turn in zip(found[name][1:], times):
                    all_turns.extend(turn)
        rates = {
            name: report(name, *found[name], mean_batch(port), cpu_seconds(pid) - idle[name])
            for name, (port, pid) in begun.items()
        }
    print(f"\nwith batching {rates['with'] / rates['without']:.2f} times as many as without; ", end="")
    print(f"with no model {rates['no model'] / rates['without']:.2f} times")
    if given.requests:
        with server(given.bundle, CHECKOUT, given.limits) as (port, pid):
            memory(port, pid, bodies, given.clients, given.requests)


def kinds(limits: list[str]) -> dict[str, tuple[list[str], list[str]]]:
    """Return limits and start of the servers that are compared."""
    alone = ["batch=1", *limits]
    return {"with": (limits, SERVE), "without": (alone, SERVE), "no model": (alone, ["-c", NO_MODEL])}


def untrained(preset: str, folder: Path) -> str:
    """Write a bundle of a recipe's sizes, random weights and as many words as Open-i's have."""
    from xray_captioning import Captioner
    from xray_captioning.config import load_preset
    from xray_captioning.decoders.model import new_model
    from xray_captioning.encoders.saved import new_encoder
    from xray_captioning.text.tokenizer import Tokenizer

    config = load_preset(preset)
    encoder = new_encoder(config, "random")
    tokenizer = Tokenizer.fit([" ".join(f"w{number}" for number in range(1383))])
    Captioner(config, encoder, new_model(config, encoder, tokenizer), tokenizer).save(folder)
    return str(folder)


def studies(folder: Path) -> list[list[bytes]]:
    """Return the two files of each study."""
    files = sorted(folder.rglob("*.png"))
    return [[file.read_bytes() for file in files[at : at + 2]] for at in range(0, len(files), 2)]


def form(files: list[bytes]) -> bytes:
    """Return the multipart body of a study."""
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    parts = b"".join(start.encode() + file + b"\r\n" for file in files)
    return parts + f"--{BOUNDARY}--\r\n".encode()


@contextmanager
def server(bundle: str, checkout: Path, limits: list[str], start: Sequence[str] = SERVE):
    """Start a server on two cores and wait until it is ready; give its port and process."""
    line = [sys.executable, *start, "serve", "--bundle", bundle, "--port", "0"]
    line += [word for limit in limits for word in ("--set", limit)]
    # With byte code, as pip installs it.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=checkout,  # `python -m` looks there first, before PYTHONPATH
        env={**env, "PYTHONPATH": str(checkout)},
        preexec_fn=lambda: pin((0, 1)),
    )
    try:
        port = int(process.stdout.readline().split()[2].rpartition(b":")[2])
        # Its log, not /readyz: to answer takes from the time that is measured.
        assert any(b'"ready"' in line for line in process.stderr), "it never became ready"
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, "it did not stop cleanly"


def starts(bundle: str, servers: dict[str, tuple], turns: int) -> None:
    """Print the seconds from starting each server, with nothing else running, until it is ready."""
    seconds: dict[str, list[float]] = {name: [] for name in servers}
    for turn in range(turns):
        for name in sorted(servers, reverse=bool(turn % 2)):
            begun = time.monotonic()
            with server(bundle, *servers[name]):
                seconds[name].append(time.monotonic() - begun)
    print("| batching | ready after s, median | each |\n| --- | --- | --- |")
    for name, found in seconds.items():
        if found:
            print(f"| {name} | {np.median(found):.2f} | {' '.join(f'{s:.2f}' for s in found)} |")
    print(flush=True)


def pin(cores) -> None:
    """Keep this process on some cores, if there are such."""
    cores = set(cores) & os.sched_getaffinity(0)
    if cores:
        os.sched_setaffinity(0, cores)


def get(port: int, path: str) -> tuple[int, bytes]:
    """Ask for a page."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", path)
    answer = connection.getresponse()
    return answer.status, answer.read()


def load(port: int, bodies: list[bytes], clients: int, seconds: float, most: int = 0):
    """Let clients send one request after the other; return statuses, times and the duration."""
    statuses: Counter = Counter()
    times: list[float] = []
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < end and (not most or sum(statuses.values()) < most):
            begun = time.monotonic()
            status = ask(connection, bodies[(number + len(times)) % len(bodies)])
            statuses[status] += 1
            if status == 200:
                times.append(time.monotonic() - begun)
            if status == 503:
                time.sleep(1)  # as Retry-After says
            if not isinstance(status, int):
                connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses, times, [time.monotonic() - begun]


def ask(connection: http.client.HTTPConnection, body: bytes) -> int | str:
    """Send a study; return the status, or the name of what went wrong."""
    try:
        connection.request("POST", "/v1/captions", body, HEADERS)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status == 200:
            assert "text" in json.loads(text)  # empty where nothing is said of the images
        return answer.status
    except Exception as error:
        return type(error).__name__


def cpu_seconds(pid: int) -> float:
    """Return how long the threads of a process have computed so far."""
    values = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")


def mean_batch(port: int) -> float:
    """Return how many studies the model saw at a time."""
    lines = dict(line.rsplit(" ", 1) for line in get(port, "/metrics")[1].decode().splitlines())
    name = "xray_captioning_batch_studies"
    return float(lines[f"{name}_sum"]) / float(lines[f"{name}_count"])


def report(name: str, statuses: Counter, times: list[float], durations: list[float], batch: float, cpu: float) -> float:
    """Print a row; return requests a second."""
    rate = len(times) / sum(durations)
    middle, late = (1000 * np.percentile(times, share) for share in (50, 99))
    failed = {status: n for status, n in statuses.items() if status not in (200, 503)}
    row = [name, f"{rate:.1f}", f"{middle:.0f}", f"{late:.0f}", len(times), statuses[503]]
    row += [failed or 0, f"{batch:.1f}", f"{1000 * cpu / len(times):.1f}"]
    print("|", " | ".join(map(str, row)), "|", flush=True)
    return rate


def memory(port: int, pid: int, bodies: list[bytes], clients: int, requests: int) -> None:
    """Print the resident memory after every tenth of the requests."""
    print("\n| requests | resident MiB |\n| --- | --- |")
    for part in range(11):
        if part:
            load(port, bodies, clients, 1e6, requests // 10)
        text = Path(f"/proc/{pid}/status").read_text("utf-8")
        kilobytes = int(text.partition("VmRSS:")[2].split()[0])
        print(f"| {part * requests // 10} | {kilobytes / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
