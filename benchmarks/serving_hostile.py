"""The API with sixteen good clients and four hostile ones, beside the good ones alone.

    python benchmarks/serving_hostile.py                  # ten minutes of each, in turns of half a minute
    python benchmarks/serving_hostile.py --seconds 60

Good clients send studies whose captions are known, and compare every answer. Each of the hostile ones does something
else, without a pause: damaged images and forms, bodies that are cut off, requests that come a byte at a time, and ones
that declare more than they send. Printed are what each phase answered, the times of good answers, and resident memory.
"""

import argparse
import http.client
import json
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving import BOUNDARY, CHECKOUT, HEADERS, form, server, studies

from tests.fuzz import harnesses, inputs
from xray_captioning.phantom.dataset import write_phantoms

GOOD, TURN = 16, 30.0  # clients, and seconds of a turn
PATH = "/v1/captions"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="of each phase, in all")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bodies = [form(files) for files in studies(write_phantoms(Path(folder, "phantoms"), studies=32, seed=9))]
    with server("phantom_attention", CHECKOUT, []) as (port, pid):
        known = [caption(http.client.HTTPConnection("127.0.0.1", port), body)[1] for body in bodies]
        found: dict[bool, list[tuple[Counter, list[float]]]] = {False: [], True: []}
        phase(port, bodies, known, True, min(TURN, given.seconds))  # until memory is what it will be
        before = resident(pid)
        for turn in range(2 * max(1, round(given.seconds / TURN))):
            hostile = bool(turn % 2)
            found[hostile].append(phase(port, bodies, known, hostile, min(TURN, given.seconds)))
        after = resident(pid)
    print("| clients | right | 503 with Retry-After | otherwise | p50 ms | p99 ms |\n" + 6 * "| --- " + "|")
    late = {hostile: row(hostile, turns) for hostile, turns in found.items()}
    print(f"\np99 beside hostile ones: {late[True] / late[False]:.2f} times")
    print(f"resident: {before:.0f}, then {after:.0f} MiB")


def row(hostile: bool, turns: list[tuple[Counter, list[float]]]) -> float:
    """Print what good clients got; return the 99th percentile of their milliseconds."""
    answers, times = sum((counted for counted, _ in turns), Counter()), [one for _, some in turns for one in some]
    middle, late = (1000 * float(np.percentile(times, share)) for share in (50, 99))
    other = {name: count for name, count in answers.items() if name not in ("right", "503")}
    name = f"{GOOD} good{' and 4 hostile' * hostile}"
    print(f"| {name} | {answers['right']} | {answers['503']} | {other or 0} | {middle:.0f} | {late:.0f} |")
    return late


def phase(
    port: int, bodies: list[bytes], known: list[str], hostile: bool, seconds: float
) -> tuple[Counter, list[float]]:
    """Let the clients send for some seconds; return what good ones got, and in how many seconds."""
    answers: Counter = Counter()
    times: list[float] = []
    end = time.monotonic() + seconds

    def good(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.monotonic() < end:
            at = (number + len(times)) % len(bodies)
            begun = time.monotonic()
            status, said = caption(connection, bodies[at])
            times.append(time.monotonic() - begun)
            answers["right" if (status, said) == (200, known[at]) else str(status)] += 1
            if status != 200:
                time.sleep(1)
                connection.close()

    def bad(attack: Callable[[int, int], None], number: int) -> None:
        sent = 0
        while time.monotonic() < end:
            with suppress(OSError):  # it was cut off, as it should be
                attack(port, sent)
            sent += 1

    threads = [threading.Thread(target=good, args=(number,)) for number in range(GOOD)]
    threads += [threading.Thread(target=bad, args=pair) for pair in zip(ATTACKS, range(4))] if hostile else []
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers, times


def caption(connection: http.client.HTTPConnection, body: bytes) -> tuple[object, str]:
    """Send a study; return the status, or what went wrong, and the text."""
    try:
        connection.request("POST", PATH, body, HEADERS)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        waits = answer.status == 503 and answer.headers["Retry-After"]
        return (503 if waits else answer.status), said.get("text", "") if answer.status == 200 else ""
    except Exception as error:
        return type(error).__name__, ""


def _inputs() -> Iterator[bytes]:
    return inputs.inputs(harnesses.bodies() + [form([image]) for image in inputs.images() + inputs.dicoms()], seed=1)


_DAMAGED = _inputs()
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"


def damaged(port: int, number: int) -> None:
    """Send a form of which some bytes are others."""
    caption(http.client.HTTPConnection("127.0.0.1", port, timeout=60), next(_DAMAGED))


def _sent(port: int, parts: list[bytes], pause: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)


def cut(port: int, number: int) -> None:
    """Declare a body, send half of it, and leave."""
    body = form([inputs.images()[0]])
    _sent(port, [f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]], 0.001)


def slow(port: int, number: int) -> None:
    """Send a header a byte at a time."""
    _sent(port, [bytes([byte]) for byte in _HEAD.encode()[:100]], 0.02)


def large(port: int, number: int) -> None:
    """Declare the largest body that is allowed, send a megabyte, and leave."""
    _sent(port, [f"{_HEAD}Content-Length: {32 << 20}\r\n\r\n".encode() + bytes(1 << 20)], 0.01)


ATTACKS = (damaged, cut, slow, large)


def resident(pid: int) -> float:
    """Return the resident memory of a process in MiB."""
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
