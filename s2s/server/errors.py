"""What clients are told when something is not as it should be, in the shape of OpenAI's errors."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
}
RETRY_AFTER = "5"  # seconds


class RequestError(Exception):
    """A request that is refused: HTTP `status`, `code` for programs, `param` at fault, and what to do."""

    def __init__(self, status: int, code: str, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.param = status, code, message, param

    @property
    def body(self) -> dict[str, Any]:
        """The error as JSON."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    @property
    def response(self) -> JSONResponse:
        """The answer to the request."""
        headers = {}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status in (429, 503):
            headers["Retry-After"] = RETRY_AFTER
        return JSONResponse(self.body, self.status, headers)


def model_failed() -> RequestError:
    """What a client is told of a fault that is not its own; the log has the rest."""
    return RequestError(500, "model_error", "the model failed on this audio; the server's log says how")


def stopping() -> RequestError:
    """What a client is told of a server that ends."""
    return RequestError(503, "stopping", "the server is stopping; try again, it may come back")
