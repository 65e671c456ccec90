"""A request that gets no answer, and its messages: for the caller, and for the server's log."""

from __future__ import annotations

import traceback

from pydantic import BaseModel, Field
from pydantic_core import to_json

# The statuses of POST /predict and POST /feedback besides 200.
STATUSES = {
    400: "The request is no HTTP that this server reads, or its body came broken",
    401: "The bearer token is missing or wrong",
    408: "The body did not arrive in time",
    413: "The body is too long",
    415: "The body is not declared as JSON",
    422: "A row is not what the model takes, or a label none of its answers; it is named with its column or field",
    429: "This client sends more than its share; `Retry-After` says when to ask again",
    500: "The request could not be answered, or ended the process that answered it",
    503: "The model does not answer as it did in training, or too much is asked at once",
}
# The rest of such a request is not read.
CLOSING = frozenset({400, 408, 413, 414, 431, 505})


class Told(BaseModel):
    """What an error says."""

    error: str
    row: int | None = Field(description="the number of the row, or label, that is wrong, the first is 1")
    column: str | None


class Problem(Exception):
    """A request that gets no answer: the status, and the fault in words.

    Attributes:
        retry: seconds until the next attempt, or None.
        close: whether the answer closes the connection.
        logged: the message for the log, without values of private columns.
        trace: the place in the code, for the log, or None.
    """

    def __init__(
        self,
        status: int,
        error: str,
        row: int | None = None,
        column: str | None = None,
        *,
        retry: int | None = None,
        close: bool = False,
        logged: str | None = None,
        trace: str | None = None,
    ) -> None:
        self.status, self.error, self.row, self.column = status, error, row, column
        self.retry, self.close, self.logged = retry, close or status in CLOSING, logged or error
        self.trace = trace
        super().__init__(error)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The additional headers of some statuses."""
        made = []
        if self.status == 401:
            made.append((b"www-authenticate", b"Bearer"))
        if self.retry is not None:
            made.append((b"retry-after", b"%d" % self.retry))
        if self.close:
            made.append((b"connection", b"close"))
        return made

    def body(self) -> bytes:
        """The one shape of all errors, as JSON."""
        return to_json({"error": self.error, "row": self.row, "column": self.column}, inf_nan_mode="null")


def trace_of(error: BaseException, text: bool) -> str:
    """The origin of an exception: the last frames, its type, and its text if that may be shown."""
    what = type(error).__name__ + (f": {error}" if text else "")
    return "".join(traceback.format_tb(error.__traceback__)[-8:])[-4000:] + what[:500]
