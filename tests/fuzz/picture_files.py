"""
PNG and JPEG files and forms of them, right and wrong, and what their readers owe: the pixels, or a refusal.

For PNG the judge is `slow_png.py`, for JPEG Pillow on the whole file, for forms a cut at every boundary.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from service.codec import form, pictures
from service.codec.rows import Array
from service.errors import ServiceError
from service.inputs import Inputs
from tests.fuzz import slow_png
from tests.fuzz.mutations import SIZES, chance, mutate, octets, pick
from tests.fuzz.verdicts import check_refusal

MODELS = {
    "grey": Inputs(kind="image", shape=(2, 3), dtype="float64", layout="HW", range=(0.0, 255.0), clamp=1.0),
    "colour": Inputs(kind="image", shape=(2, 3, 3), dtype="float64", layout="HWC", range=(0.0, 255.0), clamp=1.0),
    "alpha": Inputs(kind="image", shape=(2, 3, 4), dtype="float64", layout="HWC", range=(0.0, 255.0), clamp=1.0),
}
MOST = 5  # parts
PNG, JPEG, FORM = "image/png", "image/jpeg", "multipart/form-data"
TYPES = (
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
    (4, 8),
    (4, 16),
    (6, 8),
)
CHUNKS = (
    (b"tEXt", b"a\0b"), (b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6))), (b"iCCP", b"p\0\0x"), (b"tRNS", b"\0\1"),
    (b"acTL", bytes(8)), (b"gAMA", bytes(4)), (b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"),
    (b"eXIf", b"MM\0*\xff\xff\xff\xff"), (b"QQQQ", b""), (b"IHDR", bytes(13)), (b"PLTE", bytes(5)),
    (b"\0\n\xff\x80", b""), (b"iTXt", b"k\0\1\0\0\0x"), (b"IEND", b""), (b"pHYs", b"\xff" * 9), (b"fdAT", b"x"),
    (b"caBX", b"y" * 99),
)  # fmt: skip
MARKERS = tuple(
    bytes([0xFF, marker])
    for marker in (0xD8, 0xD9, 0xDA, 0xC0, 0xC2, 0xC4, 0xDB, 0xDD, 0xD0, 0xE0, 0xE1, 0xE2, 0xEE, 0)
)
WORDS = (
    *MARKERS,
    b"IHDR",
    b"IDAT",
    b"IEND",
    b"PLTE",
    b"tRNS",
    b"\xff" * 4,
    b"\x7f\xff\xff\xff",
    bytes(4),
    b"\x89PNG\r\n\x1a\n",
)
FORM_WORDS = (
    b"\r\n",
    b"--",
    b"\r\n--b",
    b"--b--",
    b": ",
    b'"',
    b"name=",
    b";",
    b"\0",
    b"\xff",
    b"filename*=utf-8''%ff",
    b"\n",
)


class Picture(NamedTuple):
    """One body: its model, its Content-Type, and whether it was made without a fault."""

    model: str
    content_type: str
    body: bytes
    good: bool


def make(random: Random) -> Picture:
    """A file or a form: whole, or with something wrong in a chunk, a size, a header or a byte."""
    content_type = pick(random, (5, PNG), (3, JPEG), (3, FORM))
    if content_type == FORM:
        return _make_form(random)
    model, body, good = _make_png(random) if content_type == PNG else _make_jpeg(random)
    if chance(random, 0.25):
        body, good = mutate(random, body, WORDS), False
    if chance(random, 0.02):
        content_type, good = (JPEG if content_type == PNG else PNG), False
    return Picture(model, content_type, body, good)


def check(made: Picture) -> str:
    """Read *made* and compare with its judge: "accepted", or the class of the refusal."""
    refused = None
    found: Array | list[form.Part]
    try:
        if made.content_type.startswith(FORM):
            found = form.read(made.body, made.content_type.encode("latin-1"), MOST)
        else:
            found = pictures.read(made.body, made.content_type, MODELS[made.model], 7)
    except ServiceError as error:
        refused = error
    if refused is not None:
        assert not made.good, refused.detail
        return check_refusal(refused)
    if isinstance(found, list):
        _check_parts(made, found)
        return "accepted"
    inputs = MODELS[made.model]
    assert (found.shape, found.dtype) == (inputs.shape, np.dtype(inputs.dtype))
    judged = slow_png.read(made.body) if made.content_type == PNG else _pillows(made.body)
    if judged is not None:
        assert np.array_equal(found, slow_png.converted(judged, inputs.shape)), (found, judged)
    return "accepted"


def _make_png(random: Random) -> tuple[str, bytes, bool]:
    colour, depth = random.choice(TYPES)
    model = {0: "grey", 2: "colour", 3: "colour", 4: "alpha", 6: "alpha"}[colour]
    good = depth < 16 or colour == 0
    width, height = 3, 2
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] * width
    raw = b"".join(bytes([random.randrange(5)]) + random.randbytes((bits + 7) // 8) for _ in range(height))
    palette = random.randbytes(3 * 2**depth) if colour == 3 else b""
    chunks = [(b"PLTE", palette)] if colour == 3 else []
    data = zlib.compress(raw)
    cut = random.randint(0, len(data))
    chunks += [(b"IDAT", data[:cut]), (b"IDAT", data[cut:])] if chance(random, 0.2) else [(b"IDAT", data)]
    header = [width, height, depth, colour, 0, 0, 0]
    wrong = pick(random, (8, ""), (2, "size"), (1, "header"), (2, "chunk"), (1, "pixels"), (1, "order"), (1, "model"))
    match wrong:
        case "size":
            header[random.randrange(2)] = random.choice(SIZES) % 2**32
        case "header":
            header[random.randrange(2, 7)] = random.randrange(20)
        case "chunk":
            chunks.insert(random.randint(0, len(chunks)), random.choice(CHUNKS))
        case "pixels":
            data = random.choice((raw[:-1], raw + b"\0", b"", bytes([9]) + raw[1:], bytes(10**6)))
            chunks[-1] = (b"IDAT", random.choice((zlib.compress(data), data, zlib.compress(data)[:-4])))
        case "order":
            random.shuffle(chunks)
        case "model":
            model = random.choice(list(MODELS))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", *header)), *chunks, (b"IEND", b"")]
    body = b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))
    return model, body + random.choice((b"", b"", b"", b"x")) if wrong else body, good and not wrong


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    kind, data = part
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _make_jpeg(random: Random) -> tuple[str, bytes, bool]:
    mode = random.choice(("L", "RGB", "RGB", "CMYK"))
    width, height = pick(random, (9, (3, 2)), (1, (2, 3)), (1, (3000, 2)))
    channels = {"L": 1, "RGB": 3, "CMYK": 4}[mode]
    size = width * height * channels
    noise = random.randbytes(size) if size < 100 else bytes(size)  # of wide noise Pillow writes no JPEG
    image = Image.frombytes(mode, (width, height), noise)
    file = io.BytesIO()
    progressive = chance(random, 0.3)
    image.save(file, "JPEG", quality=random.randint(1, 95), progressive=progressive)
    body = file.getvalue()
    wrong = chance(random, 0.4)
    if wrong:
        marker = random.choice((0xE0, 0xE1, 0xE1, 0xE2, 0xEE, 0xFE, 0xC0, 0xDA, 0xD9, 0xDD))
        data = random.choice(
            (
                b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0",
                b"Exif\0\0II*\0\xff\xff\xff\xff",
                b"MPF\0",
                b"Adobe\0d\0\0\0\0\1",
                octets(random, 20),
            )
        )
        segment = bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data
        body = body[:2] + segment * random.choice((1, 1, 2, 1500)) + body[2:]
    model = "grey" if mode == "L" else "colour"
    return model, body, not wrong and mode != "CMYK" and (width, height) == (3, 2)


def _pillows(body: bytes) -> Array | None:
    """All that Pillow makes of a JPEG file; None where it stumbles over what is no pixel."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(body), formats=("JPEG",)) as image:
            return np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, struct.error):
        return None


def _make_form(random: Random) -> Picture:
    boundary = pick(
        random, (9, "b"), (2, "-" * 20 + "x9"), (1, "b" * 70), (1, random.choice(("", "b" * 71, "a b", "\xff")))
    )
    body = random.choice((b"", b"", b"", b"preamble\r\n"))
    count = pick(random, (8, random.randint(1, MOST)), (1, 0), (1, MOST + 1), (1, 2000))
    good = (
        len(boundary) in (1, 22, 70)
        and boundary.isascii()
        and boundary.isalnum() | boundary.startswith("-")
        and 0 < count <= MOST
        and not body
    )
    for index in range(count):
        name = random.choice(("inputs", "draws", "a b", "x" * 300)) if index else "inputs"
        lines = [f'Content-Disposition: form-data; name="{name}"'.encode()]
        if chance(random, 0.5):
            lines.append(b"Content-Type: " + random.choice((b"image/png", b"IMAGE/jpeg; a=b", b"text/plain")))
        if chance(random, 0.05):
            good = False
            lines.append(
                random.choice(
                    (
                        b"Content-Transfer-Encoding: base64",
                        b"x",
                        b"a: " + b"b" * 2000,
                        *[b"x: y"] * 2,
                        b":",
                        b"X: \xff\0",
                    )
                )
            )
        if chance(random, 0.02):
            good, lines = False, random.choice(([], lines[1:], lines * 20))
        data = octets(random, 9).replace(b"\r\n", b"") + random.choice((b"", b"\r", b"\r\n--", b"--", b"\r\n\r\n"))
        body += b"--" + boundary.encode("latin-1") + b"\r\n" + b"\r\n".join(lines) + b"\r\n\r\n" + data + b"\r\n"
    body += (
        b"--"
        + boundary.encode("latin-1")
        + pick(random, (9, b"--\r\n"), (2, b"--"), (1, b"\r\n"), (1, b"--\r\nend"), (1, b" --"))
    )
    good = good and body.endswith((b"--", b"--\r\n")) and not body.endswith(b" --")
    content_type = f"{FORM}; boundary=" + (f'"{boundary}"' if chance(random, 0.3) else boundary)
    if chance(random, 0.25):
        return Picture("grey", content_type, mutate(random, body, FORM_WORDS), False)
    return Picture("grey", content_type, body, good)


def _check_parts(made: Picture, found: list[form.Part]) -> None:
    """Each part's data is what stands between two boundaries, behind an empty line."""
    boundary = re.search(r'boundary="?([^"]*)', made.content_type)
    assert boundary is not None
    delimiter = re.escape(b"\r\n--" + boundary[1].encode("latin-1")) + rb"(?=\r\n|--)"
    pieces = re.split(delimiter, b"\r\n" + made.body.lstrip(b"\r\n"))[1:]
    ends = next(index for index, piece in enumerate(pieces) if piece.startswith(b"--"))
    assert len(found) == ends <= MOST
    for piece, part in zip(pieces, found, strict=False):
        assert part.data == piece.partition(b"\r\n\r\n")[2]
        assert part.name
        assert isinstance(part.media_type, str)
