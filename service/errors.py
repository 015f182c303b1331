"""
What can go wrong, and what the client is told.

ServiceError                  a request that cannot be answered; each class owns its HTTP status
├── MalformedBody      400    the body is not what its Content-Type says (not JSON, not an object)
├── Unauthorized       401    no API key, or one that is not known
├── Forbidden          403    an API key of a role that may not do this
├── UnknownModel       404    under /v2: no model, or no version, of that name
├── NoReport           404    the bundle has no report page
├── ReloadRefused      409    the newest version is not fit to be served; the old one stays
├── NotAcceptable      406    no type that the client accepts is written here
├── LengthRequired     411    a POST that announces no body
├── TooLarge           413    body or rows over the limit; told before the body is read whole
├── UnsupportedMedia   415    unknown Content-Type or Content-Encoding
├── InvalidInput       422    wrong shape, type, range, NaN or infinity: the client must change the request
├── Unsupported        422    this bundle cannot do that (see /v1/model, capabilities)
├── SlowBody           408    the body did not arrive within the request timeout
├── Overloaded         429    the queue is full; Retry-After says when to try again
├── ClientGone         499    the caller hung up before the answer; nobody reads this
├── InferenceFailed    500    our fault; details go to the log under the request id, none to the client
├── HeadersTooLarge    431    more header bytes than one request may have
├── NotReady           503    starting, or draining after SIGTERM
└── DeadlineExceeded   504    no answer within the request timeout

StartError                    the process must not start serving
├── BundleError               a bundle that is damaged, incomplete, or of another schema; names the file
└── EngineError               onnxruntime missing or doubled, the wanted device absent, self-check failed

Nothing here knows HTTP beyond the status number: http/refusals.py writes the replies.
"""

from __future__ import annotations

import reprlib

MAX_SHOWN = 100


def shown(value: object) -> str:
    """*value* as a message shows it: in printable characters, and cut after MAX_SHOWN of them."""
    text = repr(value[:MAX_SHOWN]) if isinstance(value, str) else reprlib.repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def named(name: str) -> str:
    """A name that the client chose, as a message shows it: as it is, where it is short and printable."""
    return name if len(name) <= MAX_SHOWN and name.isprintable() else shown(name)


def counted(number: int, noun: str) -> str:
    """The *number* and its *noun*: "1 row", "2 rows"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def plain(number: float) -> str:
    """A *number* as a message shows it: in all its digits, whole ones without a point."""
    return f"{number:.0f}" if number % 1 == 0 and abs(number) < 2**53 else repr(number)


def kind(value: object) -> str:
    """What a client would call *value*, which came in JSON."""
    if value is None:
        return "null"
    names = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "true or false",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


class ServiceError(Exception):
    """
    A request that cannot be answered.

    *detail* is for the client: what was wrong, the limit, the value.
    *facts* are further members of the problem document (field, limit, value, row).
    """

    status = 500
    type = "internal"
    title = "Internal error"

    def __init__(self, detail: str, **facts: object) -> None:
        super().__init__(detail)
        self.detail = detail
        self.facts = facts


class MalformedBody(ServiceError):
    """The bytes are not what the Content-Type promises."""

    status = 400
    type = "malformed-body"
    title = "The body cannot be read"


class Unauthorized(ServiceError):
    """
    No API key came, or none that is known.

    *challenge*: what WWW-Authenticate says of it (RFC 6750, 3).
    """

    status = 401
    type = "unauthorized"
    title = "No valid API key"

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.challenge = challenge


class Forbidden(ServiceError):
    """
    The API key has a role that may not do this.

    *challenge*: what WWW-Authenticate says of it (RFC 6750, 3).
    """

    status = 403
    type = "forbidden"
    title = "Not allowed with this API key"

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.challenge = challenge


class UnknownModel(ServiceError):
    """Under `/v2`: no such model, or not in that version."""

    status = 404
    type = "unknown-model"
    title = "No such model"


class NoReport(ServiceError):
    """The bundle has no report page."""

    status = 404
    type = "no-report"
    title = "No report"


class ReloadRefused(ServiceError):
    """`/v1/admin/reload`: the newest version is not fit to be served; the one before stays."""

    status = 409
    type = "reload-refused"
    title = "The newest version was refused"


class NotAcceptable(ServiceError):
    """None of the types in Accept can be written."""

    status = 406
    type = "not-acceptable"
    title = "No acceptable type"


class HeadersTooLarge(ServiceError):
    """More header bytes than one request may have."""

    status = 431
    type = "headers-too-large"
    title = "The headers are too large"


class LengthRequired(ServiceError):
    """A POST with neither Content-Length nor Transfer-Encoding."""

    status = 411
    type = "length-required"
    title = "No body was announced"


class TooLarge(ServiceError):
    """More bytes or rows than one request may carry."""

    status = 413
    type = "too-large"
    title = "The request is too large"


class UnsupportedMedia(ServiceError):
    """A media type or content encoding that is not spoken here."""

    status = 415
    type = "unsupported-media-type"
    title = "The media type is not supported"


class InvalidInput(ServiceError):
    """Well-formed, but not an input of this model."""

    status = 422
    type = "invalid-input"
    title = "The input is not valid"


class Unsupported(ServiceError):
    """An operation or option that this bundle does not have."""

    status = 422
    type = "unsupported"
    title = "This model cannot do that"


class SlowBody(ServiceError):
    """The client stopped sending."""

    status = 408
    type = "slow-body"
    title = "The body took too long"


class Overloaded(ServiceError):
    """
    The queue is full, or request bodies hold too many bytes together.

    *retry_after_s* is a whole number of seconds, at least 1.
    """

    status = 429
    type = "overloaded"
    title = "The queue is full"

    def __init__(self, detail: str, retry_after_s: int, **facts: object) -> None:
        super().__init__(detail, **facts)
        self.retry_after_s = retry_after_s


class ClientGone(ServiceError):
    """The caller hung up while its rows were waiting."""

    status = 499
    type = "client-gone"
    title = "The client closed the connection"


class InferenceFailed(ServiceError):
    """The engine, or our own code, failed."""

    status = 500
    type = "inference-failed"
    title = "The model could not be run"


class NonFinite(InferenceFailed):
    """The model gave NaN or infinity for this request's rows; nobody else's answer is touched."""


class NotReady(ServiceError):
    """Not serving yet, or not any more."""

    status = 503
    type = "not-ready"
    title = "Not ready"


class DeadlineExceeded(ServiceError):
    """The request's time is over."""

    status = 504
    type = "deadline-exceeded"
    title = "The deadline passed"


class StartError(Exception):
    """The process must not serve; the message is for the operator."""


class BundleError(StartError):
    """A bundle that must not be served. *file* is the part at fault, relative to the bundle."""

    def __init__(self, bundle: object, file: str, reason: str) -> None:
        super().__init__(f"bundle {bundle}: {file}: {reason}")
        self.file = file
        self.reason = reason


class EngineError(StartError):
    """The engine cannot do what was asked of it on this machine."""
