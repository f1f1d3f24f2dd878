"""What the API's tests share: files to send, a model without weights, a server in a thread."""

import base64
import io
import socket
import threading
import zlib
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np

from xray_captioning.bundles.bundle import Identity
from xray_captioning.captioner.caption import Alternative, Caption, Sentence
from xray_captioning.config import load_preset
from xray_captioning.data.resizing import opencv
from xray_captioning.serving import create_app
from xray_captioning.serving.server import Server

GREY = np.add.outer(np.arange(90), np.arange(80)).astype(np.uint8)


def encoded(suffix=".png", image=GREY):
    return opencv().imencode(suffix, image)[1].tobytes()


def dicom(image=GREY, view=None, **elements):
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    data = Dataset()
    data.PatientName, data.PatientID = "Doe^Jane", "MRN-77"
    data.SOPClassUID, data.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    data.Rows, data.Columns = image.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = image.tobytes()
    data["PixelData"].VR = "OB"
    if view:
        data.ViewPosition = view
    for name, value in elements.items():
        setattr(data, name, value)
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def chunk(kind, content):
    checksum = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + checksum


def black(width, height):
    """Return a PNG of black pixels, small as a file."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x01\0\0\0\0"
    rows = zlib.compress(bytes(height * (1 + (width + 7) // 8)), 9)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def form(images=(), **fields):
    """Return what Flask's client sends: files under images, images_2 and so on, and fields."""
    data = {name: str(value) for name, value in fields.items() if not isinstance(value, list)}
    for name, files in {"images": images, **fields}.items():
        if isinstance(files, (list, tuple)) and files:
            sent = [(io.BytesIO(f), "a.png") if isinstance(f, bytes) else f for f in files]
            data[name.replace("_", ".")] = sent
    return {"data": data, "content_type": "multipart/form-data"}


def as_json(images=(), **fields):
    """Return the same as JSON, with files in base64."""
    data = {}
    for name, value in {"images": list(images), **fields}.items():
        if isinstance(value, list):
            sent = [base64.b64encode(one).decode() if isinstance(one, bytes) else one for one in value]
            data |= {name.replace("_", "."): sent} if sent else {}
        else:
            data[name] = value
    return {"json": data}


def body(*files, boundary="part"):
    """Return a multipart body as bytes."""
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="images"; filename="x"\r\n\r\n'
    return b"".join(head.encode() + f + b"\r\n" for f in files) + f"--{boundary}--\r\n".encode()


def post(content, length=None, extra=""):
    """Return a whole HTTP request."""
    return (
        "POST /v1/captions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        "Content-Type: multipart/form-data; boundary=part\r\n"
        f"Content-Length: {len(content) if length is None else length}\r\n{extra}\r\n"
    ).encode() + content


class Toy:
    """Stands for a captioner: says how many images it saw, and waits when told to."""

    compiles = True

    def __init__(self, calibration=None, novelty=0.5):
        self.config = load_preset("phantom_attention")
        self.encoder = SimpleNamespace(findings=())
        self.identity = Identity("toy", "2", "0f" * 32, "hf://me/toy@main")
        self.calibration, self.novelty, self.about = calibration, novelty, {}
        self.go = threading.Event()
        self.go.set()
        self.batches = []

    def features(self, studies, views=None, resized=False):
        assert resized == (views is None)  # a server hands over pixels, the app files
        assert self.go.wait(60)
        self.batches.append(len(studies))
        return studies

    def write_captions(self, studies, beam_size, total=None):
        return [self._caption(study, beam_size) for study in studies]

    def _caption(self, study, beam_size):
        study = [pixels for pixels in study if pixels is not None]
        sentences = [Sentence(f"{len(study)} seen.", -0.1, 0.9), Sentence("Small heart.", -2, 0.2)]
        others = [Alternative(f"other {i}", -3.0 - i) for i in range(beam_size - 1)]
        text = " ".join(sentence.text for sentence in sentences)
        means = [float(pixels.mean()) for pixels in study]
        return Caption(text, means, -1.0, sentences, None, others, self.novelty)


@contextmanager
def serving(app, settings):
    """Run a server in a thread; give its port."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = Server(app, sock, settings)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield SimpleNamespace(port=sock.getsockname()[1], stop=server.stop, thread=thread)
        finally:
            server.stop()
            thread.join(60)
            assert not thread.is_alive()


def toy_app(settings, toy=None):
    toy = toy or Toy()
    app = create_app(toy, settings)
    assert app.extensions["captions"].warm.wait(60)
    toy.batches.clear()
    return app


def exchange(port, request, end=False):
    """Send bytes; return the status and everything that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        return received(connection)


def received(connection):
    answer = b""
    while part := connection.recv(1 << 16):
        answer += part
    return (int(answer.split()[1]) if answer else None), answer
