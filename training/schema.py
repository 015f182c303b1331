"""
The schema of a table: which columns there are, and what each is. As text that is written, edited and read again: TOML.

Knows columns and text; nothing of rows. What a schema says of rows is held against them in coding.py.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, cast, get_args

from pydantic import JsonValue

from service.inputs import Column, Inputs, Windows
from service.manifest import Manifest
from training.cells import MISSING
from training.errors import DataError

_KINDS: Final = get_args(Column.model_fields["kind"].annotation)
_TIMES: Final = ("epoch", "iso8601")
_UNKNOWN: Final = ("other", "reject")
_KEYS: Final[dict[str, type]] = {
    "name": str,
    "use": bool,
    "kind": str,
    "unit": str,
    "vocabulary": list,
    "unknown": str,
    "missing": bool,
    "time": str,
}
_TYPES: Final = {str: "a text", bool: "true or false", list: "a list"}
_HEAD: Final = """\
# What each column of {source} is. Change what is wrong, then: vae-train fit --data {source} --schema THIS_FILE
#
# kind         numeric; integer (whole numbers), count (whole numbers from 0, large ones rare); binary; categorical,
#              ordinal (the vocabulary from least to most)
# vocabulary   the texts, in order; a binary column without one holds 0 and 1, or false and true
# unknown      categorical: a text that is not in the vocabulary is another one ("other"), or refused ("reject")
# missing      whether values may be missing
# time         numeric: an instant, as ISO 8601 text ("iso8601") or as seconds since 1970-01-01 UTC ("epoch")
# unit         of its values, for those who read answers
# use = false  leaves the column out
"""


@dataclass(frozen=True)
class Schema:
    """
    What there is to know of a table before its rows are read.

    *columns*: what is modelled, in the order in which the model has it. *ignored*: columns that are left out. *label*:
    a column that says which rows are anomalies (1). *missing*: the words for "no value". *source*: who says all this.
    *fitted*: a model was fitted by it, whose rows need not have what is ignored. *windows*: of which rows are made; the
    columns are their sensors then, *group* is the column that says which run a reading is of, and *time* the one that
    must not descend in a run; both are among the ignored ones.
    """

    columns: tuple[Column, ...]
    ignored: tuple[str, ...] = ()
    label: str | None = None
    missing: tuple[str, ...] = MISSING
    source: str = "the schema"
    fitted: bool = False
    windows: Windows | None = None
    group: str | None = None
    time: Column | None = None

    @classmethod
    def of(cls, manifest: Manifest) -> Self | None:
        """The schema that a bundle was fitted with; None where its rows are no table."""
        if manifest.inputs.columns is None:
            return None
        return cls.known(manifest.inputs, manifest.training, "the bundle")

    @classmethod
    def known(cls, inputs: Inputs, training: Mapping[str, JsonValue], source: str) -> Self:
        """The schema of a table's *inputs*, with what `as_json` left in *training*."""
        known = cast("dict[str, Any]", training.get("table") or {})
        windows, time = inputs.windows, known.get("time")
        return cls(
            (inputs.columns or ()) if windows is None else windows.sensors,
            tuple(known.get("ignored", ())),
            known.get("label"),
            tuple(known.get("missing", MISSING)),
            source,
            fitted=True,
            windows=windows,
            group=known.get("group"),
            time=None if time is None else Column.model_validate(time),
        )

    def as_json(self) -> dict[str, JsonValue]:
        """For the manifest: all but columns and windows, which have a place of their own there."""
        found: dict[str, JsonValue] = {
            "ignored": list(self.ignored),
            "label": self.label,
            "missing": list(self.missing),
        }
        if self.windows is None:
            return found
        return {**found, "group": self.group, "time": None if self.time is None else self.time.model_dump(mode="json")}


def written(schema: Schema, source: str, notes: Mapping[str, str]) -> str:
    """*schema* as TOML, with a comment of *notes* on each column. *source*: the file that it is of."""
    lines = [_HEAD.format(source=" ".join(source.split())), f"missing = {_text(list(schema.missing))}"]
    if schema.label is not None:
        lines.append(f"label = {_text(schema.label)}")
    for column in schema.columns:
        lines += ["", "[[column]]", f"name = {_text(column.name)}", *_comment(notes.get(column.name))]
        lines += [f"{key} = {_text(value)}" for key, value in _members(column)]
    for name in schema.ignored:
        lines += ["", "[[column]]", f"name = {_text(name)}", *_comment(notes.get(name)), "use = false"]
    return "\n".join(lines) + "\n"


def read(path: Path) -> Schema:
    """The schema in *path*. Raises DataError, naming the file, the line, the column and the reason."""
    try:
        text = path.read_text("utf-8")
        found = tomllib.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: not TOML: {error}") from None
    if unknown := [key for key in found if key not in ("missing", "label", "column")]:
        raise DataError(f"{path.name}: {unknown[0]!r} is none of missing, label and [[column]]")
    missing, label = found.get("missing", list(MISSING)), found.get("label")
    if not isinstance(missing, list) or not all(isinstance(word, str) for word in missing):
        raise DataError(f"{path.name}: missing must be a list of texts")
    if label is not None and not isinstance(label, str):
        raise DataError(f"{path.name}: label must be the name of a column")
    entries = found.get("column", [])
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{path.name}: columns are written under [[column]], each in one of its own")
    return _schema(path.name, list(zip(_heads(text), entries, strict=False)), label, tuple(missing))


def _schema(
    file: str, entries: Sequence[tuple[int, dict[str, Any]]], label: str | None, words: tuple[str, ...]
) -> Schema:
    columns: dict[str, Column] = {}
    ignored: dict[str, int] = {}
    missing = {word.strip().lower() for word in words}
    for line, entry in entries:
        name = entry.get("name")
        at = f"{file}: line {line}" + (f", column {name!r}" if isinstance(name, str) else "")
        if not isinstance(name, str) or not name:
            raise DataError(f"{at}: the column has no name")
        if name in columns or name in ignored:
            raise DataError(f"{at}: is there twice")
        if name == label:
            raise DataError(f"{at}: is the label, and cannot be learned from: take it out here, or out of label")
        for key, value in entry.items():
            if key not in _KEYS:
                raise DataError(f"{at}: {key!r} is none of {', '.join(_KEYS)}")
            if type(value) is not _KEYS[key]:
                raise DataError(f"{at}: {key} must be {_TYPES[_KEYS[key]]}")
        if entry.get("use", True):
            columns[name] = _column(at, entry, missing)
        else:
            ignored[name] = line
    if not columns:
        raise DataError(f"{file}: no column is used")
    return Schema(tuple(columns.values()), tuple(ignored), label, words, file)


def _column(at: str, entry: Mapping[str, Any], missing: set[str]) -> Column:
    kind, time, unknown = entry.get("kind", "numeric"), entry.get("time"), entry.get("unknown", "reject")
    for key, value, words in (("kind", kind, _KINDS), ("time", time, (None, *_TIMES)), ("unknown", unknown, _UNKNOWN)):
        if value not in words:
            raise DataError(f"{at}: {key} {value!r} is none of {', '.join(filter(None, words))}")
    vocabulary = entry.get("vocabulary")
    if kind in ("categorical", "ordinal") and not vocabulary:
        raise DataError(f"{at}: {kind}, so it needs a vocabulary")
    if kind in ("numeric", "integer", "count") and vocabulary is not None:
        raise DataError(f"{at}: {kind}, so it has no vocabulary")
    if kind == "binary" and vocabulary is not None and len(vocabulary) != 2:
        raise DataError(f"{at}: binary, so its vocabulary has two texts; it has {len(vocabulary)}")
    if time is not None and kind != "numeric":
        raise DataError(f"{at}: {kind}, so it has no time: an instant is numeric")
    if unknown == "other" and kind != "categorical":
        raise DataError(f'{at}: {kind}, so unknown cannot be "other"')
    for i, word in enumerate(vocabulary or ()):
        if not isinstance(word, str) or word != word.strip() or not word:
            raise DataError(f"{at}: the vocabulary has {word!r}, which is not a text without space around it")
        if word in (vocabulary or ())[:i]:
            raise DataError(f"{at}: the vocabulary has {word!r} twice")
        if word.lower() in missing:
            raise DataError(f"{at}: the vocabulary has {word!r}, which is a word for a missing value")
    given = {key: value for key, value in entry.items() if key != "use"}
    return Column(**{**given, "vocabulary": None if vocabulary is None else tuple(vocabulary)})


def _members(column: Column) -> Iterator[tuple[str, Any]]:
    """What a column is, less what it is by default, in the order in which it is read best."""
    yield "kind", column.kind
    for key in ("unit", "time", "vocabulary"):
        if (value := getattr(column, key)) is not None:
            yield key, list(value) if isinstance(value, tuple) else value
    if column.kind == "categorical":
        yield "unknown", column.unknown
    yield "missing", column.missing


def _heads(text: str) -> list[int]:
    """The lines of the [[column]] headings, from 1."""
    return [number for number, line in enumerate(text.split("\n"), 1) if line.replace(" ", "").startswith("[[column]]")]


def _comment(note: str | None) -> list[str]:
    return [] if note is None else ["# " + "".join(c if c.isprintable() else " " for c in note)]


def _text(value: Any) -> str:
    """A value as TOML, whose texts, lists and truth values are JSON's but for DEL, which it wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
