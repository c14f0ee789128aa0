"""Exceptions as HTTP answers: a status, one line, and the body of the protocol that was spoken."""

from typing import Any

from headrace.errors import ConfigError, HeadraceError, UnavailableError
from headrace.serving.job import PromptTooLongError
from headrace.serving.options import UnknownModelError

LONGEST_MESSAGE = 500
V2_PATH = "/v2"


def status_of(error: Exception) -> int:
    """The HTTP status an exception is answered with."""
    if isinstance(error, UnknownModelError):
        return 404
    if isinstance(error, UnavailableError):
        return 503
    return 400 if isinstance(error, ConfigError) else 500


def plain(error: Exception) -> str:
    """One line about an exception that may be shown to anyone; of a bug it tells its kind alone."""
    if not isinstance(error, HeadraceError):
        return f"The server failed on this request ({type(error).__name__}). Look into its log."
    line = " ".join(str(error).split())
    return line if len(line) <= LONGEST_MESSAGE else f"{line[:LONGEST_MESSAGE]} …"


def error_body(path: str, message: str, status: int, error: Exception | None = None) -> dict[str, Any]:
    """An error in the shape of the protocol that `path` belongs to, OpenAI's or V2."""
    if path.startswith(V2_PATH):
        return {"error": message}
    codes = {UnknownModelError: "model_not_found", PromptTooLongError: "context_length_exceeded"}
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": codes.get(type(error))}}  # type: ignore[arg-type]
