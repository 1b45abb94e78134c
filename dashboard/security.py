"""What each of our own routes checks before it answers.

Streamlit protects its own routes, not ours. A request of ours must be addressed to a name this
machine answers to (or DNS rebinding lets a foreign page read the answers), must not come from
another site, and, where it changes something, must carry a header that a foreign page cannot set
without asking first.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from regatta.dashboard import settings
from regatta.utils import RegattaError

# Any value will do: a page of another origin cannot send it without a CORS preflight, which no
# route of ours answers.
REQUEST_HEADER = "x-regatta-request"
READING_METHODS = frozenset({"GET", "HEAD"})

log = logging.getLogger("regatta.dashboard")

Handler = Callable[[Request], Awaitable[Response]]


def failure(status: int, message: str, hint: str = "") -> JSONResponse:
    """An error as the page and a command can show it: a sentence and what to do."""
    return JSONResponse({"error": {"message": message, "hint": hint}}, status_code=status)


def refusal(request: Request) -> Response | None:
    """The answer to a request that must not be served, or ``None``."""
    host = request.headers.get("host")
    if not _is_our_name(host):
        return failure(403, "This address is not one that Regatta answers to.")
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return failure(403, "Requests from other sites are refused.")
    origin = request.headers.get("origin")
    if origin is not None and not _is_same_origin(origin, request):
        return failure(403, "Requests from other sites are refused.")
    if request.method not in READING_METHODS and REQUEST_HEADER not in request.headers:
        return failure(403, f"The header {REQUEST_HEADER} is missing.")
    return None


def guarded(handler: Callable[[Request], Response]) -> Handler:
    """``handler`` behind the checks, in a thread of its own: it may read files."""

    @functools.wraps(handler)
    async def threaded(request: Request) -> Response:
        return await run_in_threadpool(handler, request)

    return guarded_async(threaded)


def guarded_async(handler: Handler) -> Handler:
    """``handler`` behind the checks, on the event loop: it must not block."""

    @functools.wraps(handler)
    async def checked(request: Request) -> Response:
        refused = refusal(request)
        if refused is not None:
            return refused
        try:
            return await handler(request)
        except RegattaError as error:
            return failure(404 if isinstance(error, NotFound) else 400, error.message, error.hint)
        except Exception:  # a traceback belongs in the log, never in an answer
            log.exception("%s %s failed", request.method, request.url.path)
            return failure(500, "Something went wrong here.", "The server's log says what.")

    return checked


class NotFound(RegattaError):
    """Nothing has the name that was asked for."""


def _is_our_name(host: str | None) -> bool:
    if settings.behind_proxy():
        return True
    try:
        return settings.is_loopback(urlsplit(f"//{host or ''}").hostname)
    except ValueError:
        return False


def _is_same_origin(origin: str, request: Request) -> bool:
    # Behind a proxy the browser's name for us may come in the forwarded header alone.
    names = {request.headers.get("host", "")}
    if settings.behind_proxy():
        names.add(request.headers.get("x-forwarded-host", ""))
    try:
        return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc in names
    except ValueError:
        return False
