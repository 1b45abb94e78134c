"""The web application's entry point: which script the page is, and which routes stand beside it.

    browser ── GET /            ▶ dashboard/pages/ (navigation, four pages)
            ── /api/…, /metrics ▶ dashboard/routes.py

Started by ``streamlit run main.py``, ``python main.py`` or ``regatta serve``. The page shows what
the run store holds and writes commands into it; it never trains.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import streamlit as st
from starlette.middleware import Middleware

from regatta.dashboard import folders, settings
from regatta.dashboard.routes import ROUTES, warm_up
from regatta.dashboard.security import Guard
from regatta.utils import RegattaError

HERE = Path(__file__).resolve().parent
SCRIPT = HERE / "dashboard" / "pages" / "navigation.py"

app = st.App(SCRIPT, routes=ROUTES, middleware=[Middleware(Guard)], lifespan=warm_up)


def serve(
    port: int = settings.DEFAULT_PORT,
    host: str = settings.DEFAULT_HOST,
    open_browser: bool = False,
    behind_proxy: bool = False,
    data_roots: Sequence[str] = (),
) -> None:
    """Serve the page until a signal comes.

    Parameters
    ----------
    port : int
        Port to listen on.
    host : str
        Address to listen on. Another one than this machine's own (127.0.0.1) is refused unless
        people sign in, here or at a proxy in front.
    open_browser : bool
        Open the page in the default browser once it is ready.
    behind_proxy : bool
        Say that such a proxy is there.
    data_roots : sequence of str
        Folders whose CSV files the page may read where they lie. Without any, those that
        REGATTA_DATA_ROOT names, if it does.

    Raises
    ------
    RegattaError
        When the address or a folder is refused or the port is taken.
    """
    if behind_proxy:
        settings.declare_proxy()
    if data_roots:
        settings.declare_data_roots(data_roots)
    settings.check_address(host)
    folders.check()
    settings.check_port(host, port)
    app.run(config=settings.server_options(host=host, port=port, open_browser=open_browser))


if __name__ == "main":  # `streamlit run main.py` imports this file under its bare name
    # The folder of this file must not offer its `utils` or `models` to anyone else's imports.
    sys.path[:] = [entry for entry in sys.path if entry != str(HERE)]
    try:
        settings.check_address(st.get_option("server.address"))
        folders.check()
        settings.tell_streamlit()
    except RegattaError as error:
        sys.exit(f"regatta: {error}")
elif __name__ == "__main__":
    sys.exit(settings.run_command_line(serve))
