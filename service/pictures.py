"""
Pictures as bodies and replies of /v1: one as a body, several in a form, and a reply as a contact sheet.

Knows which bundles have pictures, and what is worth a thread of its own; nothing of files' formats or of sockets.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import orjson

from service import messages
from service.codec import form, heat, pictures, pillow, pixels, sheets
from service.codec.fields import MAX_QUERY, Fields, add_option, read_options, read_rows
from service.codec.records import flat
from service.codec.rows import Array
from service.errors import InvalidInput, MalformedBody, UnsupportedMedia, named, shown
from service.http import media
from service.inputs import Inputs
from service.manifest import Operation
from service.served import Served

Result = TypeVar("Result")

HERE = 65536  # bytes and pixels: what is more is read in a thread, off the event loop
_EACH = 1024  # pixels that are read in the time that it takes to begin with a picture
_FIELD = "inputs"
_JUDGED = ("scores", "p_values", "is_anomaly")  # told beside the maps


def absent(inputs: Inputs) -> dict[str, str]:
    """The media types that are not there for a bundle with these *inputs*, or in this installation, and why."""
    missing = pixels.refusal(inputs) or pillow.MISSING
    found = dict.fromkeys((media.PNG, media.JPEG), missing) if missing else {}
    if missing or form.MISSING:
        found[media.FORM] = missing or form.MISSING
    return found


async def add(fields: Fields, served: Served, body: bytes, media_type: str, content_type: bytes) -> None:
    """
    Add the pictures in *body* to *fields*, and the options of a form.

    Raises MalformedBody, UnsupportedMedia, InvalidInput or TooLarge; each picture at fault is named by its row.
    """
    if media_type == media.FORM:
        most = served.max_rows + MAX_QUERY
        files = _files(await _run(len(body), form.read, body, content_type, most), fields)
    else:
        files = [(media_type, body)]
    if not files:
        return
    if _FIELD in fields:
        raise InvalidInput(f"{_FIELD} is given twice: as an option, and as pictures", field=_FIELD)
    served.rows.inputs.check_count(len(files), 1, served.max_rows)
    inputs = served.manifest.inputs
    fields[_FIELD] = await _run(len(body) + len(files) * (inputs.features + _EACH), _rows, files, inputs)


def drawing(op: Operation, served: Served, fields: Fields, write: str) -> Callable[[Fields], bytes] | None:
    """
    What draws the reply to a request with these *fields*, whose options of drawing are taken out of them.

    None where the reply is *write* and no picture. Raises InvalidInput for these options.
    """
    if write != media.PNG:
        _check_undrawn(fields, served.manifest.inputs, write)
        return None
    asked = {name: fields.pop(name) for name in messages.SheetOptions.model_fields if name in fields}
    options = read_options(messages.SheetOptions, asked)
    given = fields.get(_FIELD) if op == "reconstruct" else None

    def draw(reply: Fields) -> bytes:
        """The sheet. Raises TooLarge."""
        inputs, layout = served.manifest.inputs, sheets.Layout(options.columns, options.scale)
        told = _told({"model": served.model, **reply})
        if op == "anomaly-score":
            return _maps(reply, inputs, layout, told)
        rows = [reply["outputs"]]
        if op == "interpolate" and layout.columns is None:
            order, columns = sheets.legs(reply["alphas"])
            rows, layout = [rows[0][order]], layout._replace(columns=columns)
        if op == "reconstruct":
            rows.insert(0, read_rows({_FIELD: given}, served.rows.inputs, served.max_rows))
        grid = sheets.grid(len(rows[0]), len(rows), pixels.size(inputs), layout)
        return sheets.write(grid, [pixels.shown(part, inputs) for part in rows], told)

    return draw


def _maps(reply: Fields, inputs: Inputs, layout: sheets.Layout, told: dict[str, str]) -> bytes:
    """The sheet of scored rows: each input, what was expected of it, and the map of what is surprising in it."""
    maps, scores = reply["maps"], reply["scores"]
    blank = frozenset(np.flatnonzero(np.isnan(scores)).tolist())  # they could not be scored, and are no pictures
    grid = sheets.grid(len(scores), len(maps), pixels.size(inputs), layout)
    rows = {name: np.nan_to_num(array) for name, array in maps.items()} if blank else maps
    parts = [pixels.shown(rows[name], inputs) for name in ("inputs", "expected")]
    told |= {name: orjson.dumps(reply[name].tolist()).decode() for name in _JUDGED}
    told["map.nats"] = f"0 to {heat.MOST:g}"
    return sheets.write(grid, [*parts, heat.heat(rows["excess"], inputs)], told, blank)


def _check_undrawn(fields: Fields, inputs: Inputs, write: str) -> None:
    """Raise InvalidInput for options of drawing where the reply is *write*, though it could be a picture."""
    for name in messages.SheetOptions.model_fields:
        if name in fields and media.PNG not in absent(inputs):
            raise InvalidInput(
                f"{name} is an option of pictures, and the reply to this request is {write}; ask for a picture by "
                f"Accept: {media.PNG}",
                field=name,
            )


def _files(parts: list[form.Part], fields: Fields) -> list[tuple[str, bytes]]:
    """The media type and the bytes of each picture; the other *parts* are options."""
    files = []
    for index, part in enumerate(parts):
        if part.name == _FIELD:
            if part.media_type not in pictures.READERS:
                raise UnsupportedMedia(
                    f"part {index} of the form, {_FIELD}, must be {' or '.join(pictures.READERS)}; its Content-Type is "
                    f"{shown(part.media_type)}",
                    value=named(part.media_type),
                )
            files.append((part.media_type, part.data))
            continue
        try:
            text = part.data.decode()
        except UnicodeDecodeError:
            raise MalformedBody(
                f"part {index} of the form, {shown(part.name)}, is no text; the pictures' name is {_FIELD}"
            ) from None
        add_option(fields, part.name, text)
    return files


def _rows(files: list[tuple[str, bytes]], inputs: Inputs) -> Array:
    return np.stack([pictures.read(body, kind, inputs, row) for row, (kind, body) in enumerate(files)])


def _told(reply: Mapping[str, Any]) -> dict[str, str]:
    """What a reply says beside its arrays, as text: the model, and where there is one the seed."""
    scalars = {name: array.item() for name, array in flat(reply).items() if not array.ndim}
    return {name: value if isinstance(value, str) else orjson.dumps(value).decode() for name, value in scalars.items()}


async def _run(cost: int, work: Callable[..., Result], *args: object) -> Result:
    return work(*args) if cost <= HERE else await asyncio.to_thread(work, *args)
