"""What schemathesis is told beside the document; loaded by it, in its own environment."""

from __future__ import annotations

import schemathesis

LEAST_MS = 30_000


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, object]) -> None:
    """Give every request time: who asks for an answer within a millisecond is rightly told 504."""
    for name, value in dict(case.headers or {}).items():
        if name.lower() == "x-request-timeout-ms" and str(value).isdigit() and int(value) < LEAST_MS:
            case.headers[name] = str(LEAST_MS)


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case) -> bool:
    """
    Leave out what is no error: an unknown header, which HTTP has servers ignore (RFC 9110, 5.1), and an empty one.

    The document cannot say that an empty header counts as none.
    """
    headers = case.headers or {}
    return not any("unknown-property" in name or _empty(value) for name, value in headers.items())


def _empty(value: object) -> bool:
    """Whether a header of *value* goes out empty."""
    return value is None or isinstance(value, bool) or not str(value).strip(" []{}()'\"")
