"""Streamlit's frame: the HTML that every page of ours begins as."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from pathlib import Path

from streamlit import file_util

# Streamlit's script does not know whether `data` in /data is a page or where the server begins. It
# asks for /data/_stcore/health first and takes two 404s for an answer, unless it is told.
WHERE_THE_SERVER_BEGINS = "window.__streamlit={BACKEND_BASE_URL:location.origin}"
_SCRIPT_WITHIN = re.compile(r"<script>(.*?)</script>", re.DOTALL)


@functools.cache
def told_frame() -> str:
    """What Streamlit answers to the path of a page, with the place of its routes."""
    told = f"<head><script>{WHERE_THE_SERVER_BEGINS}</script>"
    return streamlit_frame().replace("<head>", told, 1)


@functools.cache
def streamlit_frame() -> str:
    """The frame as Streamlit serves it."""
    return (Path(file_util.get_static_dir()) / "index.html").read_text(encoding="utf-8")


@functools.cache
def script_hashes() -> tuple[str, ...]:
    """The scripts within the frame, as a content security policy names them."""
    digests = [
        hashlib.sha256(each.encode()).digest() for each in _SCRIPT_WITHIN.findall(told_frame())
    ]
    return tuple(f"'sha256-{base64.b64encode(each).decode()}'" for each in digests)
