"""The body of a form, read with bounds: URL-encoded, UTF-8, at most 4 KiB, each field once."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from turnkey.console.guard import MAX_BODY_BYTES

MAX_FIELDS = 8
MAX_VALUE = 128


class FormError(ValueError):
    """The body is no form of this console. `status` is HTTP's."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


async def read_form(request: Request) -> Mapping[str, str]:
    """The fields of a posted form, without white space around them or control characters in them.

    A scanner may send its number with a line end or a symbology prefix; what does not print is none of the number's.

    Raises:
        FormError: too large, of another type, not UTF-8, too many fields, or a field twice.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        raise FormError(415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise FormError(413)
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError as error:
        raise FormError(400) from error
    form = dict(pairs)
    if len(form) != len(pairs) or any(len(value) > MAX_VALUE for value in form.values()):
        raise FormError(400)
    return {name: "".join(one for one in value if one.isprintable()).strip() for name, value in form.items()}
