"""The API with sixteen good clients and four hostile ones, beside the good ones alone.

    python benchmarks/serving_hostile.py                  # ten minutes of each, in turns of half a minute
    python benchmarks/serving_hostile.py --seconds 60 --turn 5
    python benchmarks/serving_hostile.py --each           # what a request of each kind costs the server
    python benchmarks/serving_hostile.py --proxy          # behind nginx, which is installed apart

Good clients send studies whose captions are known, and compare every answer. Each of the hostile ones does something
else, without a pause: damaged images and forms, bodies that are cut off, requests that come a byte at a time, and ones
that declare more than they send. Printed are what each phase answered, the times of good answers, how many cores each
side took, and resident memory, also after a rest: in between it holds what was sent and not refused yet.

The server, the good clients and the hostile ones are a process each, and share the cores. What the hostile ones send
is made beforehand. What they take of the cores for themselves is lost to good answers, too, which no server can help.
So there are turns in which those that wait for no answer do the same to a sink: a process that reads whatever comes and
answers nothing. The times beside the sink are what the hostile clients and the system's part of their connections cost.

With --proxy, nginx stands before the server as docs/serving.md sets it up: it passes on whole requests only.
"""

import argparse
import http.client
import json
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from serving import BOUNDARY, CHECKOUT, HEADERS, cpu_seconds, form, get, server, studies

from tests.fuzz import harnesses, inputs
from xray_captioning.phantom.dataset import write_phantoms

GOOD = 16  # clients
DAMAGED = 5000  # inputs that are made, and sent again from the first
REST = 15  # seconds without a request before memory is looked at; freed memory goes back every ten
PATH = "/v1/captions"
_HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary={BOUNDARY}\r\n"


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="of each phase, in all")
    parser.add_argument("--turn", type=float, default=30, help="seconds of a turn")
    parser.add_argument("--each", action="store_true", help="one client of each kind, one after the other")
    parser.add_argument("--proxy", action="store_true", help="nginx before the server")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bodies = [form(files) for files in studies(write_phantoms(Path(folder, "phantoms"), studies=32, seed=9))]
    ours, theirs = get_context("spawn").Pipe()
    attackers = get_context("spawn").Process(target=hostile, args=(theirs,), daemon=True)
    sinks = get_context("spawn").Process(target=sink, args=(theirs,), daemon=True)
    attackers.start()
    ours.recv()  # it has made what it will send
    sinks.start()
    pids = {"hostile clients": attackers.pid, "sink": sinks.pid}
    nowhere = ours.recv()
    with server("phantom_attention", CHECKOUT, []) as (behind, pid), proxy(behind, given.proxy) as (port, front):
        pids |= {"proxy": front} if front else {}
        known = [caption(http.client.HTTPConnection("127.0.0.1", port), body)[1] for body in bodies]
        load = Load((port, nowhere), {"server": pid, **pids}, bodies, known, ours)
        each(load, min(given.seconds, given.turn)) if given.each else beside(load, given.seconds, given.turn)
    ours.send(None)
    attackers.join()


NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors warn; worker_rlimit_nofile 4096;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    upstream captions {{ server 127.0.0.1:{behind}; keepalive 32; }}
    server {{
        listen 127.0.0.1:{port};
        client_max_body_size 32m;
        client_body_buffer_size 32m;
        client_body_temp_path {folder}/body;
        proxy_temp_path {folder}/answers;
        location / {{ proxy_pass http://captions; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""


@contextmanager
def proxy(behind: int, wanted: bool) -> Iterator[tuple[int, int | None]]:
    """Put nginx before a server's port, if it is wanted; give the port to ask, and nginx's process."""
    if not wanted:
        yield behind, None
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "nginx.conf")
        settings.write_text(NGINX.format(folder=folder, behind=behind, port=port), "utf-8")
        process = subprocess.Popen(["nginx", "-p", folder, "-c", settings, "-e", Path(folder, "errors")])
        try:
            while http_status(port) is None:
                assert process.poll() is None, "nginx has ended"
                time.sleep(0.05)
            yield port, process.pid
            assert "temporary file" not in Path(folder, "errors").read_text("utf-8"), "an upload was written to a file"
        finally:
            process.terminate()
            process.wait(60)


def http_status(port: int) -> int | None:
    """Return the status of the probe, None where nobody listens."""
    with suppress(OSError):
        return get(port, "/healthz")[0]
    return None


class Load:
    """A server, its clients, and what they have cost."""

    def __init__(
        self,
        ports: tuple[int, int],  # of the server and of the sink
        pids: dict[str, int | None],
        bodies: list[bytes],
        known: list[str],
        attackers: Connection,
    ) -> None:
        self.ports, self.pids, self.bodies, self.known, self.attackers = ports, pids, bodies, known, attackers

    def turn(self, good: int, attacks: list[int], seconds: float, nowhere: bool = False) -> tuple[Counter, list[float]]:
        """Let clients send for some seconds; return what they got and what they cost, and the times of good answers."""
        answers, times, begun = Counter(), [], self._cpu()
        self.attackers.send((self.ports[nowhere], attacks, seconds))
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._good, args=(n, end, answers, times)) for n in range(good)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        answers.update(self.attackers.recv())
        answers.update({name: now - before for (name, now), before in zip(self._cpu().items(), begun.values())})
        return answers, times

    def _cpu(self) -> dict[str, float]:
        others = {name: cpu_seconds(pid or 0) for name, pid in self.pids.items()}
        return {**others, "good clients": time.process_time(), "seconds": time.monotonic()}

    def _good(self, number: int, end: float, answers: Counter, times: list[float]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.ports[0], timeout=60)
        while time.monotonic() < end:
            at = (number + len(times)) % len(self.bodies)
            begun = time.monotonic()
            status, said = caption(connection, self.bodies[at])
            times.append(time.monotonic() - begun)
            answers["right" if (status, said) == (200, self.known[at]) else status] += 1
            if status != 200:
                time.sleep(1)
                connection.close()


def beside(load: Load, seconds: float, turn: float) -> None:
    """Compare good clients alone with good clients beside hostile ones, and beside such as attack a sink, in turns."""
    everyone, pid = list(range(len(ATTACKS))), load.pids["server"] or 0
    phases = {"": [], " and 3 at the sink": everyone[1:], " and 4 hostile": everyone}
    load.turn(GOOD, [], turn)
    quiet = resident(pid, REST)
    load.turn(GOOD, everyone, turn)  # the first DICOM file loads pydicom, the first WebP its decoder
    first = resident(pid, REST)
    found: dict[str, list[tuple[Counter, list[float]]]] = {name: [] for name in phases}
    for _ in range(max(1, round(seconds / turn))):
        for name, attacks in phases.items():
            found[name].append(load.turn(GOOD, attacks, turn, nowhere="sink" in name))
    under, last = resident(pid), resident(pid, REST)
    columns = ["clients", "right", "503 with Retry-After", "otherwise", "hostile requests", "p50 ms", "p99 ms"]
    columns += [f"cores of {side}" for side in SIDES]
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}")
    alone, beside_sink, attacked = (row(name, turns) for name, turns in found.items())
    print(f"\np99 beside hostile ones: {attacked / alone:.2f} times that alone, ", end="")
    print(f"{attacked / beside_sink:.2f} times that beside those at the sink, which is {beside_sink / alone:.2f} times")
    print(
        f"resident MiB: {quiet:.0f} after good clients alone, {first:.0f} after the first turn with hostile ones; ",
        end="",
    )
    print(f"{under:.0f} at the end of the last, {last:.0f} after {REST} s of rest: {100 * (last / first - 1):+.1f} %")


def row(others: str, turns: list[tuple[Counter, list[float]]]) -> float:
    """Print what good clients got; return the 99th percentile of their milliseconds."""
    answers, times = sum((counted for counted, _ in turns), Counter()), [one for _, some in turns for one in some]
    middle, late = (1000 * float(np.percentile(times, share)) for share in (50, 99))
    told = {"right", 503, "seconds", *SIDES, *(attack.__name__ for attack in ATTACKS)}
    other = {name: count for name, count in answers.items() if name not in told}
    sent = ", ".join(f"{answers[attack.__name__]} {attack.__name__}" for attack in ATTACKS) if others else "0"
    cores = " | ".join(f"{answers[side] / answers['seconds']:.2f}" for side in SIDES)
    got = f"{answers['right']} | {answers[503]} | {other or 0} | {sent} | {middle:.0f} | {late:.0f}"
    print(f"| {GOOD} good{others} | {got} | {cores} |")
    return late


def each(load: Load, seconds: float) -> None:
    """Print what a request of each kind costs the server, from one client that sends one after the other."""
    load.turn(1, list(range(len(ATTACKS))), seconds)  # the first DICOM file loads pydicom
    print("| request | a second | CPU ms of the server | CPU ms of the sink |\n| --- | --- | --- | --- |")
    for name, good, attacks in [("good", 1, []), *((a.__name__, 0, [n]) for n, a in enumerate(ATTACKS))]:
        counted = load.turn(good, attacks, seconds)[0]
        count = counted["right" if good else name]
        least = "" if good or not attacks[0] else _least(load, attacks, name, seconds)
        cost = f"{1000 * counted['server'] / count:.2f}"
        print(f"| {name} | {count / counted['seconds']:.0f} | {cost} | {least} |", flush=True)


def _least(load: Load, attacks: list[int], name: str, seconds: float) -> str:
    counted = load.turn(0, attacks, seconds, nowhere=True)[0]
    return f"{1000 * counted['sink'] / counted[name]:.2f}"


def caption(connection: http.client.HTTPConnection, body: bytes) -> tuple[int | str, str]:
    """Send a study; return the status, or what went wrong, and the text."""
    try:
        connection.request("POST", PATH, body, HEADERS)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        untold = answer.status == 503 and not answer.headers["Retry-After"]
        return ("503 alone" if untold else answer.status), said.get("text", "") if answer.status == 200 else ""
    except Exception as error:
        return type(error).__name__, ""


def hostile(orders: Connection) -> None:
    """Make what is sent, then attack as told: a port, which attacks, and for how many seconds."""
    seeds = harnesses.bodies() + [form([image]) for image in inputs.images() + inputs.dicoms()]
    made = list(islice(inputs.inputs(seeds, seed=1), DAMAGED))
    orders.send(True)
    for port, attacks, seconds in iter(orders.recv, None):
        sent, end = Counter(), time.monotonic() + seconds
        given = (port, made, end, sent)
        threads = [threading.Thread(target=_repeat, args=(ATTACKS[number], *given)) for number in attacks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        orders.send(sent)


def sink(orders: Connection) -> None:
    """Say a port, and read whatever comes there until it ends."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as sock, selectors.DefaultSelector() as open_ones:
        open_ones.register(sock, selectors.EVENT_READ)
        orders.send(sock.getsockname()[1])
        while True:
            for key, _ in open_ones.select():
                _read(key.fileobj, sock, open_ones)


def _read(ready: socket.socket, sock: socket.socket, open_ones: selectors.BaseSelector) -> None:
    if ready is sock:
        open_ones.register(sock.accept()[0], selectors.EVENT_READ)
        return
    with suppress(OSError):
        if ready.recv(1 << 20):
            return
    open_ones.unregister(ready)
    ready.close()


def _repeat(attack: Callable[[int, bytes], None], port: int, made: list[bytes], end: float, sent: Counter) -> None:
    while time.monotonic() < end:
        with suppress(OSError):  # it was cut off, as it should be
            attack(port, made[sent[attack.__name__] % DAMAGED])
        sent[attack.__name__] += 1


def damaged(port: int, body: bytes) -> None:
    """Send a form of which some bytes are others."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    caption(connection, body)
    connection.close()


def _sent(port: int, parts: list[bytes], pause: float) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)


def cut(port: int, body: bytes) -> None:
    """Declare a body, send half of it, and leave."""
    _sent(port, [f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2]], 0.001)


def slow(port: int, body: bytes) -> None:
    """Send a header a byte at a time."""
    _sent(port, [bytes([byte]) for byte in _HEAD.encode()[:100]], 0.02)


def large(port: int, body: bytes) -> None:
    """Declare the largest body that is allowed, send a megabyte, and leave."""
    _sent(port, [f"{_HEAD}Content-Length: {32 << 20}\r\n\r\n".encode() + bytes(1 << 20)], 0.01)


ATTACKS = (damaged, cut, slow, large)
SIDES = ("server", "proxy", "good clients", "hostile clients", "sink")


def resident(pid: int, rest: float = 0) -> float:
    """Return the resident memory of a process in MiB, after some seconds."""
    time.sleep(rest)
    text = Path(f"/proc/{pid}/status").read_text("utf-8")
    return int(text.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
