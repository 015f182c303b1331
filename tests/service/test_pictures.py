"""Pictures to rows, exactly or not at all: every conversion, every refusal, and what hostile files cost."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from PIL import Image

from service.codec import jpeg, pictures, pixels, png
from service.errors import InvalidInput, MalformedBody, ServiceError, TooLarge
from service.inputs import Inputs

ROOT = Path(__file__).parent.parent.parent
GREY = Inputs(kind="image", shape=(2, 3), dtype="float32", layout="HW", range=(0.0, 255.0), clamp=1.0)
RGB = Inputs(kind="image", shape=(2, 3, 3), dtype="float32", layout="HWC", range=(0.0, 255.0), clamp=1.0)
PLANES = Inputs(kind="image", shape=(3, 2, 3), dtype="float64", layout="CHW", range=(0.0, 255.0), clamp=1.0)
RGBA = Inputs(kind="image", shape=(2, 3, 4), dtype="float32", layout="HWC", range=(0.0, 255.0), clamp=1.0)

LEVELS = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)
PAINT = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14
EXIF_ROTATED = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def saved(array: Any, form: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """A file as Pillow writes it."""
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, form, **options)
    return file.getvalue()


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def made(raw: bytes, depth: int, colour: int, *extra: bytes, width: int = 3, height: int = 2) -> bytes:
    """A PNG file chunk by chunk; *raw* is a filter byte and the samples, for each line."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def behind_header(file: bytes, *chunks: bytes) -> bytes:
    """A PNG file with *chunks* before its pixels."""
    return file[:33] + b"".join(chunks) + file[33:]


def behind_start(file: bytes, marker: int, data: bytes) -> bytes:
    """A JPEG file with one segment more."""
    return file[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + file[2:]


def read(file: bytes, inputs: Inputs = GREY, kind: str = "image/png") -> list[Any]:
    """The row as nested lists."""
    row = pictures.read(file, kind, inputs)
    assert (row.shape, row.dtype) == (inputs.shape, np.dtype(inputs.dtype))
    found: list[Any] = row.tolist()
    return found


def test_grey_levels_are_the_numbers_of_the_file() -> None:
    """0 to 255 for a model whose pixels are 0 to 255."""
    assert read(saved(LEVELS)) == LEVELS.tolist()


@pytest.mark.parametrize(
    ("depth", "raw", "want"),
    [
        (1, b"\0\xa0\0\x40", [[255, 0, 255], [0, 255, 0]]),
        (2, b"\0\x18\0\xc0", [[0, 85, 170], [255, 0, 0]]),
        (4, b"\0\x0f\x10\0\x80\0", [[0, 255, 17], [136, 0, 0]]),
        (8, b"\0\0\x01\xff\0\x80\x7f\0", [[0, 1, 255], [128, 127, 0]]),
    ],
)
def test_fewer_bits_are_the_same_share_of_white(depth: int, raw: bytes, want: list[list[int]]) -> None:
    """As the PNG specification has it: the largest sample is white."""
    assert read(made(raw, depth, png.GREY)) == want
    assert read(made(raw, depth, png.GREY), RGB) == [[[v] * 3 for v in line] for line in want]


def test_sixteen_bits_keep_all_their_levels() -> None:
    """65535 is white, and nothing is cut to 8 bits on the way; repeated for a model in colour."""
    levels = np.array([[0, 1, 256], [257, 65534, 65535]], np.uint16)
    assert read(saved(levels)) == (levels * 255.0 / 65535).astype(np.float32).tolist()
    exact = GREY.model_copy(update={"range": (0.0, 65535.0)})
    assert read(saved(levels), exact) == levels.tolist()
    assert np.array(read(saved(levels), PLANES.model_copy(update={"range": (0.0, 65535.0)})))[2].tolist() == (
        levels.tolist()
    )


def test_an_interlaced_picture_is_the_same_picture() -> None:
    """Adam7, written by hand: a picture of one pixel has one pass."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 1)
    file = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\x7b")) + chunk(b"IEND")
    assert read(file, GREY.model_copy(update={"shape": (1, 1)})) == [[123]]


def test_colour_is_laid_out_as_the_model_wants_it() -> None:
    """Channels last or first; 255 is exactly white."""
    assert read(saved(PAINT), RGB) == PAINT.tolist()
    assert read(saved(PAINT), PLANES) == np.moveaxis(PAINT, -1, 0).tolist()


def test_a_palette_is_the_colours_it_names() -> None:
    """By any number of bits; grey where all its colours are."""
    palette = bytes([10, 20, 30, 40, 50, 60])
    file = made(b"\0\x40\0\xa0", 1, png.PALETTE, chunk(b"PLTE", palette))
    assert read(file, RGB) == [[[10, 20, 30], [40, 50, 60], [10, 20, 30]], [[40, 50, 60], [10, 20, 30], [40, 50, 60]]]
    grey = made(b"\0\x40\0\xa0", 1, png.PALETTE, chunk(b"PLTE", bytes([7] * 3 + [9] * 3)))
    assert read(grey) == [[7, 9, 7], [9, 7, 9]]


def test_grey_in_colour_is_grey_and_grey_can_be_coloured() -> None:
    """Equal channels are one; one is three equal ones."""
    assert read(saved(LEVELS, mode="RGB")) == LEVELS.tolist()
    assert read(saved(LEVELS), RGB) == np.dstack([LEVELS] * 3).tolist()
    assert read(saved(LEVELS), PLANES) == np.stack([LEVELS] * 3).tolist()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_that_hides_nothing_is_dropped(mode: str) -> None:
    """Opaque pictures have no other meaning; what is transparent has, and is named."""
    image = Image.fromarray(LEVELS).convert(mode)
    assert read(saved(image)) == LEVELS.tolist()
    assert read(saved(image), RGB) == np.dstack([LEVELS] * 3).tolist()
    alpha = np.full((2, 3), 255, np.uint8)
    alpha[1, 2] = 254
    image.putalpha(Image.fromarray(alpha))
    for inputs in (GREY, RGB):
        with pytest.raises(InvalidInput, match=r"pixel 1,2 \(row, column\) is transparent \(alpha 254 of 255\)"):
            read(saved(image), inputs)


def test_the_alpha_of_a_palette_counts_too() -> None:
    """Only where a pixel has such a colour."""
    palette = chunk(b"PLTE", bytes([1, 1, 1, 2, 2, 2, 3, 3, 3]))
    raw = b"\0\x00\x01\x01\0\x01\x01\x00"
    assert read(made(raw, 8, png.PALETTE, palette, chunk(b"tRNS", b"\xff\xff\0"))) == [[1, 2, 2], [2, 2, 1]]
    with pytest.raises(InvalidInput, match="pixel 0,1 "):
        read(made(raw, 8, png.PALETTE, palette, chunk(b"tRNS", b"\xff\x80")))


def test_a_model_with_alpha_takes_it_and_takes_none_for_opaque() -> None:
    """PNG's own meaning of a picture without alpha."""
    alpha = np.array([[0, 1, 2], [3, 4, 255]], np.uint8)
    assert read(saved(np.dstack([PAINT, alpha])), RGBA) == np.dstack([PAINT, alpha]).tolist()
    assert read(saved(np.dstack([LEVELS, alpha])), RGBA) == np.dstack([LEVELS] * 3 + [alpha]).tolist()
    assert read(saved(PAINT), RGBA) == np.dstack([PAINT, np.full((2, 3), 255)]).tolist()
    assert np.array(read(saved(LEVELS), RGBA))[..., 3].tolist() == [[255] * 3] * 2


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_is_what_its_decoder_says(progressive: bool) -> None:
    """Grey and colour; grey in colour is grey."""
    for array, inputs in ((LEVELS, GREY), (PAINT, RGB)):
        file = saved(array, "JPEG", quality=95, progressive=progressive)
        want = np.asarray(Image.open(io.BytesIO(file))).tolist()
        assert read(file, inputs, "image/jpeg") == want
    flat = saved(np.full((2, 3, 3), 77, np.uint8), "JPEG")
    assert read(flat, GREY, "image/jpeg") == [[77] * 3] * 2


def test_metadata_are_passed_over() -> None:
    """An upright EXIF, text, a profile, a comment: the pixels are the same."""
    exif = Image.Exif()
    exif[0x0112] = 1
    exif[0x010F] = "a camera"
    want = read(saved(LEVELS))
    info: dict[str, Any] = {"exif": exif, "icc_profile": b"no profile at all", "dpi": (72, 72)}
    assert read(saved(LEVELS, **info)) == want
    assert read(behind_header(saved(LEVELS), chunk(b"tEXt", b"a\0b"), chunk(b"gAMA", b"\0\0\0\1"))) == want
    plain = read(saved(LEVELS, "JPEG"), GREY, "image/jpeg")
    assert read(saved(LEVELS, "JPEG", comment=b"hello", **info), GREY, "image/jpeg") == plain


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("turned", range(2, 9))
def test_a_picture_that_is_to_be_turned_is_refused(order: str, turned: int) -> None:
    """Viewers turn it, training data usually are not: either would be a guess."""
    begin = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}I", 8)
    other = struct.pack(f"{order}HHII", 0x010F, 2, 1, 0)
    tiff = begin + struct.pack(f"{order}H", 2) + other + struct.pack(f"{order}HHIHH", 0x0112, 3, 1, turned, 0)
    with pytest.raises(InvalidInput, match=rf"to be turned \(EXIF orientation {turned}\)"):
        read(behind_header(saved(LEVELS), chunk(b"eXIf", tiff)))
    with pytest.raises(InvalidInput, match=rf"EXIF orientation {turned}"):
        read(behind_start(saved(LEVELS, "JPEG"), 0xE1, b"Exif\0\0" + tiff), GREY, "image/jpeg")
    assert read(behind_header(saved(LEVELS), chunk(b"eXIf", tiff[:-13]))) == LEVELS.tolist()


def test_the_size_must_be_the_models() -> None:
    """Both are named, width first as pictures have it."""
    for kind in ("PNG", "JPEG"):
        with pytest.raises(InvalidInput, match=r"row 0: the picture is 4 x 2 .* the model takes 3 x 2") as caught:
            read(saved(np.zeros((2, 4), np.uint8), kind), GREY, f"image/{kind.lower()}")
        assert caught.value.facts == {"field": "inputs", "row": 0, "limit": [3, 2], "value": [4, 2]}


APNG = chunk(b"acTL", struct.pack(">II", 2, 0))
SAVED = saved(LEVELS)
JPEGS = saved(LEVELS, "JPEG")
SCAN = JPEGS[JPEGS.index(b"\xff\xda") : -2]
SPLIT = (zlib.compress(bytes(8))[:5], zlib.compress(bytes(8))[5:])
TABLES = b"\xff\xc4\xff\xff" + bytes(65533)
FLOODS = (b"\0", b"\xff\0", b"\xff\xd0", b"\xff\xff\0", b"\xff\xff\xff\xd1")


def packed(data: bytes, methods: bytes = b"\0\0\0", *behind: bytes) -> bytes:
    """A grey PNG file whose IDAT is *data*; *methods* of compression, filter and interlace."""
    header = struct.pack(">IIBB", 3, 2, 8, png.GREY) + methods
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", data), *behind, chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def flooded(flood: bytes) -> bytes:
    """A JPEG file whose scan goes on with *flood*, 8 kB of it: as much as all of its picture may have."""
    return JPEGS[:-2] + flood * (8192 // len(flood)) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("file", "inputs", "error", "told"),
    [
        (saved(PAINT), GREY, InvalidInput, r"pixel 0,0 .* has a colour, \[0, 14, 28\]; the model takes grey"),
        (made(bytes(2 * 19), 16, png.RGB), RGB, InvalidInput, "16 bits a sample in colour"),
        (made(bytes(2 * 13), 16, png.GREY_ALPHA), GREY, InvalidInput, "16 bits a sample"),
        (made(bytes(2 * 25), 16, png.RGB_ALPHA), RGBA, InvalidInput, "16 bits a sample"),
        (made(bytes(8), 8, png.GREY, chunk(b"tRNS", b"\0\1")), GREY, InvalidInput, "transparent colour"),
        (made(bytes(20), 8, png.RGB, chunk(b"tRNS", bytes(6))), RGB, InvalidInput, "transparent colour"),
        (behind_header(SAVED, APNG), GREY, InvalidInput, "animation"),
        (behind_header(SAVED, chunk(b"fdAT", bytes(8))), GREY, MalformedBody, "'fdAT' of an animation, and no acTL"),
        (behind_header(SAVED, chunk(b"fcTL", bytes(26))), GREY, MalformedBody, "'fcTL' of an animation, and no acTL"),
        (SAVED[:-12] + chunk(b"IEND", b"x"), GREY, MalformedBody, "IEND, holds 1 byte; it is to hold none"),
        (packed(zlib.compress(bytes(8)) + b"junk"), GREY, MalformedBody, "4 bytes too many in IDAT"),
        (packed(zlib.compress(bytes(8)), b"\1\0\0"), GREY, MalformedBody, "compression method 1; 0 is the only one"),
        (packed(zlib.compress(bytes(8)), b"\0\1\0"), GREY, MalformedBody, "filter method 1; 0 is the only one"),
        (packed(zlib.compress(bytes(8)), b"\0\0\2"), GREY, MalformedBody, "interlace method 2; 0 and 1 are all"),
        (
            packed(SPLIT[0], b"\0\0\0", chunk(b"tEXt", b"a\0b"), chunk(b"IDAT", SPLIT[1])),
            GREY,
            MalformedBody,
            "by a chunk 'tEXt'",
        ),
        (packed(SPLIT[0], b"\0\0\0", chunk(b"PLTE", bytes(3))), GREY, MalformedBody, "'PLTE' behind its pixels"),
        (packed(SPLIT[0], b"\0\0\0", chunk(b"tRNS", bytes(2))), GREY, MalformedBody, "'tRNS' behind its pixels"),
        (
            made(bytes(8), 8, png.PALETTE, chunk(b"tRNS", b"\xff"), chunk(b"PLTE", bytes(3))),
            RGB,
            MalformedBody,
            "'PLTE' behind 'tRNS'",
        ),
        (SAVED[:-1], GREY, MalformedBody, "cut short"),
        (SAVED[:-12], GREY, MalformedBody, "cut short"),
        (SAVED[:8], GREY, MalformedBody, "cut short"),
        (SAVED[:7], GREY, MalformedBody, "not a PNG file"),
        (b"", GREY, MalformedBody, "not a PNG file"),
        (JPEGS, GREY, MalformedBody, "not a PNG file"),
        (SAVED + b"\0", GREY, MalformedBody, "1 byte too many, behind its end"),
        (SAVED[:45] + b"!" + SAVED[46:], GREY, MalformedBody, "checksum of chunk 2"),
        (SAVED[:33] + SAVED[8:], GREY, MalformedBody, "'IHDR' at a wrong place"),
        (SAVED[:8] + SAVED[33:], GREY, MalformedBody, "'IDAT' at a wrong place"),
        (behind_header(SAVED, chunk(b"CgBI")), GREY, MalformedBody, "'CgBI', which the format does not know"),
        (SAVED[:8] + chunk(b"IHDR", bytes(12)) + SAVED[33:], GREY, MalformedBody, "12 bytes; 13 needed"),
        (made(bytes(8), 3, png.GREY), GREY, MalformedBody, "colour type 0 with 3 bits"),
        (made(bytes(8), 8, 5), GREY, MalformedBody, "colour type 5 with 8 bits"),
        (made(bytes(7), 8, png.GREY), GREY, MalformedBody, "not the 8 bytes that its header tells of"),
        (
            made(bytes(4), 8, png.GREY),
            GREY,
            MalformedBody,
            "not the 8 bytes",
        ),  # Pillow makes up the line that is absent
        (made(bytes(9), 8, png.GREY), GREY, MalformedBody, "not the 8 bytes"),
        (made(b"\x07" * 8, 8, png.GREY), GREY, MalformedBody, "cannot be decoded"),
        (SAVED[:33] + chunk(b"IDAT", b"no zlib") + chunk(b"IEND"), GREY, MalformedBody, "cannot be decompressed"),
        (SAVED[:33] + chunk(b"IEND"), GREY, MalformedBody, "not the 8 bytes"),
        (made(b"\0\0\0\1" * 2, 8, png.PALETTE, chunk(b"PLTE", bytes(3))), RGB, MalformedBody, "1 colour; .* number 1"),
        (made(bytes(8), 8, png.PALETTE, chunk(b"PLTE", bytes(4))), RGB, MalformedBody, "no list of colours"),
        (made(bytes(8), 8, png.PALETTE), RGB, MalformedBody, "0 colours"),
        (
            made(bytes(8), 8, png.PALETTE, chunk(b"PLTE", bytes(3)), chunk(b"tRNS", b"\xff\xff")),
            RGB,
            MalformedBody,
            "no list of colours",
        ),
        (behind_header(SAVED, *[chunk(b"teXt")] * 4096), GREY, TooLarge, "more than 4096 chunks"),
    ],
)
def test_a_png_that_is_not_such_a_picture_is_refused(
    file: bytes, inputs: Inputs, error: type[ServiceError], told: str
) -> None:
    """422 for a sound file that has no place here, 400 for a damaged one; the row is named."""
    with pytest.raises(error, match=told) as caught:
        pictures.read(file, "image/png", inputs, row=7)
    assert caught.value.detail.startswith("inputs: row 7: ")
    assert (caught.value.facts["field"], caught.value.facts["row"]) == ("inputs", 7)


@pytest.mark.parametrize(
    ("file", "error", "told"),
    [
        (saved(PAINT, "JPEG", quality=100), InvalidInput, "has a colour"),
        (saved(Image.fromarray(PAINT).convert("CMYK"), "JPEG"), InvalidInput, r"4 components \(CMYK\)"),
        (JPEGS.replace(b"\xff\xc0\0\x0b\x08", b"\xff\xc0\0\x0b\x0c"), InvalidInput, "12 bits a sample"),
        (behind_start(JPEGS, 0xE2, b"MPF\0"), InvalidInput, "several pictures"),
        (SAVED, MalformedBody, "not a JPEG file"),
        (b"\xff\xd8", MalformedBody, "cut short"),
        (b"\xff\xd8\xff", MalformedBody, "cut short"),
        (b"\xff\xd8\xff\xd9", MalformedBody, "0 headers and 0 scans"),
        (b"\xff\xd8\xff\xc0\0\x01\xff\xd9", MalformedBody, "cut short"),
        (b"\xff\xd8\xff\xc0\0\x07\x08\0\x02\0\x03\xff\xd9", MalformedBody, "header has 5 bytes; 6 or more needed"),
        (JPEGS[:-2] + b"\xff" * 300 + JPEGS[-2:], MalformedBody, "more than 256 fill bytes"),
        (JPEGS[:2] + b"\xff" * 257 + JPEGS[2:], MalformedBody, "more than 256 fill bytes"),
        (JPEGS[:2] + b"\xff" * 200 + JPEGS[2:-2] + b"\xff" * 57 + JPEGS[-2:], MalformedBody, "more than 256 fill"),
        (JPEGS[:2] + SCAN + JPEGS[2:], MalformedBody, "a scan before its header"),
        *[(flooded(flood), TooLarge, "over 8 a sample, .* rounded up to 32") for flood in FLOODS],
        (
            behind_start(JPEGS, 0xDB, (b"\0" + b"\1" * 64) * 1000)[:-2] + TABLES * 2 + b"\xff\xd9",
            TooLarge,
            "bytes of tables",
        ),
        (b"\xff\xd8" + JPEGS[2:-2].replace(b"\xff\xda", b"\xff\xfe") + b"\xff\xd9", MalformedBody, "no segment begins"),
        (JPEGS[:-2], MalformedBody, "cut short"),
        (JPEGS[:100], MalformedBody, "cut short"),
        (JPEGS + b"\xff", MalformedBody, "1 byte too many, behind its end"),
        (JPEGS[:-2] + JPEGS[JPEGS.index(b"\xff\xc0") :], MalformedBody, "2 headers and 2 scans"),
        (JPEGS.replace(b"\xff\xdb", b"\xff\xfe"), MalformedBody, "cannot be decoded"),
        (JPEGS[:-2] + SCAN * 64 + b"\xff\xd9", TooLarge, "65 scans; the limit is 64"),
        (JPEGS[:2] + b"\xff\xfe\0\x02" * 1024 + JPEGS[2:], TooLarge, "more than 1024 segments"),
    ],
)
def test_a_jpeg_that_is_not_such_a_picture_is_refused(file: bytes, error: type[ServiceError], told: str) -> None:
    """As with PNG."""
    with pytest.raises(error, match=told):
        pictures.read(file, "image/jpeg", GREY)


def test_pixels_in_several_chunks_are_one_stream() -> None:
    """One behind the other, an empty one among them."""
    stream = zlib.compress(b"\0" + LEVELS[0].tobytes() + b"\0" + LEVELS[1].tobytes())
    rest = [chunk(b"IDAT"), chunk(b"IDAT", stream[5:]), chunk(b"tEXt", b"a\0b")]
    assert read(packed(stream[:5], b"\0\0\0", *rest)) == LEVELS.tolist()


def test_fill_before_markers_changes_nothing_and_reaches_no_decoder() -> None:
    """Up to 256 bytes of it: before the first segment, and behind the scan."""
    filled = JPEGS[:2] + b"\xff" * 100 + JPEGS[2:-2] + b"\xff" * 156 + JPEGS[-2:]
    assert read(filled, GREY, "image/jpeg") == read(JPEGS, GREY, "image/jpeg")
    assert jpeg.read(filled, lambda width, height: None).file == jpeg.read(JPEGS, lambda width, height: None).file


def test_thumbnails_of_jfif_reach_no_decoder() -> None:
    """APP0 is JFIF's header, and also what its extension (JFXX) keeps a thumbnail in."""
    thumbnail = behind_start(JPEGS, 0xE0, b"JFXX\0\x10" + bytes(60_000))
    assert jpeg.read(thumbnail, lambda width, height: None).file == jpeg.read(JPEGS, lambda width, height: None).file


def test_a_jpeg_of_another_size_is_refused_before_what_follows_its_header_is_read() -> None:
    """Whatever that is."""
    wrong = saved(np.zeros((2, 4), np.uint8), "JPEG")
    with pytest.raises(InvalidInput, match="4 x 2"):
        read(wrong[: wrong.index(b"\xff\xda")] + b"junk", GREY, "image/jpeg")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("side", [1, 8, 33, 65])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"restart_marker_blocks": 1}])
def test_the_largest_scans_of_an_encoder_pass(side: int, progressive: bool, options: dict[str, Any]) -> None:
    """Noise in black and white, at the best quality there is."""
    noise = np.random.default_rng(0).integers(0, 2, (side, side, 3)).astype(np.uint8) * 255
    file = saved(noise, "JPEG", quality=100, progressive=progressive, **options)
    inputs = RGB.model_copy(update={"shape": (side, side, 3)})
    assert read(file, inputs, "image/jpeg") == np.asarray(Image.open(io.BytesIO(file))).tolist()


def test_a_bit_of_damage_in_a_png_never_passes() -> None:
    """Every byte of it is under a checksum, which Pillow does not look at for the pixels."""
    for index in range(len(SAVED)):
        damaged = bytearray(SAVED)
        damaged[index] ^= 0x10
        with pytest.raises(MalformedBody):
            pictures.read(bytes(damaged), "image/png", GREY)


ranges = st.tuples(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6)).map(lambda ends: (ends[0], ends[0] + ends[1]))


@given(
    levels=st.sampled_from([np.uint8, np.uint16]).flatmap(lambda dtype: npst.arrays(dtype, (2, 3))),
    ends=st.sampled_from([(0.0, 1.0), (0.0, 16.0), (-1.0, 1.0), (0.0, 255.0)]) | ranges,
    dtype=st.sampled_from(["float32", "float64"]),
)
@example(levels=np.full((2, 3), 255, np.uint8), ends=(-0.3, 0.4), dtype="float64")
def test_a_saved_array_is_read_to_the_bit(levels: np.ndarray, ends: tuple[float, float], dtype: Any) -> None:
    """The row is that of the numbers low + level (high - low) / white, rounded once; black and white are exact."""
    most = np.iinfo(levels.dtype).max
    inputs = GREY.model_copy(update={"range": ends, "dtype": dtype})
    row = pictures.read(saved(levels), "image/png", inputs)
    low, high = ends
    want = low + levels * (high - low) / most
    want[levels == most] = high
    assert row.dtype == dtype
    assert row.tobytes() == want.astype(dtype).tobytes()


@given(levels=npst.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(2), st.just(3), st.sampled_from([1, 3, 4]))))
def test_what_is_shown_is_read_again(levels: np.ndarray) -> None:
    """From pictures to rows and back nothing changes, whatever the layout, where 8 bits hold the values."""
    channels = levels.shape[-1]
    for ends in ((0.0, 16.0), (-1.0, 1.0)):
        for layout, shape in (("HWC", (2, 3, channels)), ("CHW", (channels, 2, 3)), ("HW", (2, 3))):
            if layout == "HW" and channels > 1:
                continue
            inputs = Inputs(kind="image", shape=shape, dtype="float32", layout=layout, range=ends, clamp=1.0)
            files = [saved(picture[..., 0] if channels == 1 else picture) for picture in levels]
            rows = np.stack([pictures.read(file, "image/png", inputs) for file in files])
            assert np.array_equal(pixels.shown(rows, inputs), levels)


pieces = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([SAVED, JPEGS, SAVED[:33], chunk(b"IEND"), chunk(b"PLTE", bytes(9)), chunk(b"IDAT", b"x"), APNG]),
    st.sampled_from([JPEGS[:2], SCAN, b"\xff\xd9", b"\xff\xda\0\x08\x01\x01\0\0\x3f\0", b"\xff\xe1\0\x02"]),
    st.tuples(st.sampled_from([b"IHDR", b"tRNS", b"eXIf", b"IDAT", b"zTXt"]), st.binary(max_size=20)).map(
        lambda pair: chunk(*pair)
    ),
    st.tuples(st.integers(1, 17), st.integers(0, 7), st.binary(max_size=30)).map(lambda p: made(p[2], p[0], p[1])),
)


@settings(max_examples=500)
@given(
    parts=st.lists(pieces, max_size=5),
    cut=st.none() | st.tuples(st.integers(0, 300), st.binary(max_size=4)),
    inputs=st.sampled_from([GREY, RGB, PLANES, RGBA]),
    kind=st.sampled_from(["image/png", "image/jpeg"]),
)
def test_any_bytes_are_a_row_or_a_refusal(
    parts: list[bytes], cut: tuple[int, bytes] | None, inputs: Inputs, kind: str
) -> None:
    """Never a fault of ours, and never a row of another shape."""
    body = b"".join(parts)
    if cut is not None:
        body = body[: cut[0]] + cut[1] + body[cut[0] + len(cut[1]) :]
    try:
        row = pictures.read(body, kind, inputs)
    except ServiceError as error:
        status = error.status
    else:
        status = 200
        assert (row.shape, row.dtype) == (inputs.shape, np.dtype(inputs.dtype))
        assert np.isfinite(row).all()
    assert status < 500


BOMB = zlib.compress(bytes(50 * 2**20), 9)


@pytest.mark.parametrize(
    ("file", "answer"),
    [
        (made(BOMB, 8, png.RGB, width=50_000, height=50_000), "50000 x 50000"),
        (made(BOMB, 8, png.GREY), "not the 8 bytes"),
        (behind_header(SAVED, *[chunk(b"zTXt", b"a\0\0" + BOMB)] * 8), "passed"),
        (behind_header(SAVED, chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)), "passed"),
        (behind_header(SAVED, chunk(b"iCCP", b"a\0\0" + BOMB)), "passed"),
        (SAVED[:-12] + chunk(b"zTXt", b"a\0\0" + BOMB) * 8 + SAVED[-12:], "passed"),
    ],
)
def test_a_bomb_does_not_go_off(file: bytes, answer: str) -> None:
    """Neither giant headers nor what is packed in text, profiles and pixels is ever unpacked: seen by the memory."""
    code = (
        "import re, sys\n"
        "from service.codec import pictures\n"
        "from service.inputs import Inputs\n"
        "def peak(): return int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])\n"
        f"inputs, sound = Inputs.model_validate_json({GREY.model_dump_json()!r}), {SAVED!r}\n"
        "pictures.read(sound, 'image/png', inputs)\n"
        "file = sys.stdin.buffer.read()\n"
        "before = peak()\n"
        "try: pictures.read(file, 'image/png', inputs); print('passed')\n"
        "except Exception as error: print(error)\n"
        "print(peak() - before)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, input=file, capture_output=True, check=True)
    told, kilobytes = ran.stdout.decode().splitlines()
    assert answer in told
    assert int(kilobytes) < 10_000


def test_a_giant_jpeg_is_refused_by_its_header() -> None:
    """65,535 pixels each way would be 13 GB."""
    giant = JPEGS.replace(b"\xff\xc0\0\x0b\x08\0\x02\0\x03", b"\xff\xc0\0\x0b\x08\xff\xff\xff\xff")
    tracemalloc.start()
    with pytest.raises(InvalidInput, match="65535 x 65535"):
        pictures.read(giant, "image/jpeg", GREY)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10**5


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "table", "layout": None, "shape": (6,)}, "of the kind 'table'"),
        ({"layout": "HWC", "shape": (2, 3, 2)}, "1, 3 or 4 channels, and this model's inputs 2"),
        ({"range": None}, "no range of its pixels"),
        ({"range": (1.0, 1.0)}, "1 to 1, which has no black and white"),
        ({"range": (-1e308, 1.7e308)}, "no black and white"),
    ],
)
def test_what_is_no_picture_says_why(changes: dict[str, Any], told: str) -> None:
    """A table, two channels, values of which none is black."""
    assert told in pixels.refusal(GREY.model_copy(update=changes))
    assert not pixels.refusal(GREY)
