"""What each of our own routes checks before it answers.

Streamlit protects its own routes, not ours. A request of ours must be addressed to a name this
machine answers to (or DNS rebinding lets a foreign page read the answers), must not come from
another site, must come from someone who has signed in, where people do, and, where it changes
something, must carry a header that a foreign page cannot set without asking first. `Guard` stands
around Streamlit's routes too.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regatta.dashboard import frame, settings, sign_in
from regatta.utils import RegattaError

# Any value will do: a page of another origin cannot send it without a CORS preflight, which no
# route of ours answers.
REQUEST_HEADER = "x-regatta-request"
READING_METHODS = frozenset({"GET", "HEAD"})

# What Streamlit's front end needs and no more: our components reach the page as scripts made there
# (blob:), and styles are written by scripts. The scripts within the frame are let in one by one.
CONTENT_POLICY = {
    "default-src": "'self'",
    "script-src": "'self' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self'",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "form-action": "'self'",
}
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
# Whether the page may stand in another's frame is for the proxy to say, where there is one.
NOT_IN_A_FRAME = {"X-Frame-Options": "DENY"}
# Streamlit keeps what is sent there in memory, for anyone who has the page open. No page of ours
# uses it: files come by /api/upload.
CLOSED = "/_stcore/upload_file"
POLICY_VIOLATION = 1008  # a web socket's code; refused before it is open, the answer is a 403

log = logging.getLogger("regatta.dashboard")

Handler = Callable[[Request], Awaitable[Response]]


class Guard:
    """Around everything that is served, Streamlit's own routes too: whom it answers, what it never
    serves, and the headers that tell the browser how much to trust an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == "websocket" and not _may_connect(Headers(scope=scope)):
            await receive()
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in answer_headers().items():
                    headers.setdefault(name, value)
            await send(message)

        app: ASGIApp = self._app
        if not _is_our_name(Headers(scope=scope).get("host")):
            app = failure(403, "This address is not one that Regatta answers to.")
        elif scope["path"].startswith(CLOSED):
            app = failure(403, "Files are uploaded on the page “Data”.")
        await app(scope, receive, send_with_headers)


def answer_headers() -> dict[str, str]:
    """The headers that go with every answer."""
    policy, headers = dict(CONTENT_POLICY), dict(HEADERS)
    policy["script-src"] = " ".join([policy["script-src"], *frame.script_hashes()])
    if not settings.behind_proxy():
        policy["frame-ancestors"] = "'none'"
        headers |= NOT_IN_A_FRAME
    text = "; ".join(f"{name} {value}" for name, value in policy.items())
    return {**headers, "Content-Security-Policy": text}


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
    if origin is not None and not _is_same_origin(origin, request.headers):
        return failure(403, "Requests from other sites are refused.")
    if not sign_in.is_signed_in(request.cookies):
        return failure(401, "Sign in on the page first.")
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

    vars(checked)["is_guarded"] = True
    return checked


class NotFound(RegattaError):
    """Nothing has the name that was asked for."""


def _is_our_name(host: str | None) -> bool:
    try:
        return settings.is_our_name(urlsplit(f"//{host or ''}").hostname)
    except ValueError:
        return False


def _may_connect(headers: Headers) -> bool:
    """Whether a web socket comes from a page of ours, or from no browser.

    Streamlit would let pages of other ports in, and for an origin that it does not know it asks a
    server on the internet for this machine's address, while everyone else waits.
    """
    origin = headers.get("origin")
    if not _is_our_name(headers.get("host")):
        return False
    return origin is None or _is_same_origin(origin, headers)


def _is_same_origin(origin: str, headers: Headers) -> bool:
    # Behind a proxy the browser's name for us may come in the forwarded header alone.
    names = {headers.get("host", "")}
    if settings.behind_proxy():
        names.add(headers.get("x-forwarded-host", ""))
    try:
        return bool(urlsplit(origin).netloc) and urlsplit(origin).netloc in names
    except ValueError:
        return False
