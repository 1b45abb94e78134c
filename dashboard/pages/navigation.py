"""The script of the page: its frame and its navigation.

Streamlit runs this file for every session and after every click; the page's own file runs within.
It stands among the pages because a folder `pages` beside it would be taken for a navigation of its
own until the first session has run.
"""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from regatta.dashboard import sign_in

PAGES = Path(__file__).resolve().parent
STATIC = PAGES.parent / "static"

st.set_page_config(page_title="Regatta", page_icon=str(STATIC / "icon.svg"), layout="wide")
st.logo(str(STATIC / "logo.svg"), size="medium")
st.html(STATIC / "page.css")
sign_in.ask()

st.navigation(
    [
        st.Page(PAGES / "train.py", title="Train", icon=":material/monitoring:", default=True),
        st.Page(PAGES / "data.py", title="Data", icon=":material/table:", url_path="data"),
        st.Page(
            PAGES / "new_run.py", title="New run", icon=":material/add_circle:", url_path="new"
        ),
        st.Page(
            PAGES / "workers.py", title="Workers", icon=":material/groups:", url_path="workers"
        ),
        st.Page(PAGES / "runs.py", title="Runs", icon=":material/list:", url_path="runs"),
        st.Page(
            PAGES / "explain.py", title="Explain", icon=":material/insights:", url_path="explain"
        ),
        st.Page(
            PAGES / "predict.py",
            title="Predict and export",
            icon=":material/output:",
            url_path="predict",
        ),
        st.Page(PAGES / "logs.py", title="Logs", icon=":material/subject:", url_path="logs"),
    ],
    position="top",
).run()
