"""The script that Streamlit runs for each session: list the pages, show the layout."""

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` adds only the folder of this file to the path, not the root of the packages.
if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

from app.components.layout import catch_errors, show_layout
from app.components.paths import ASSETS, ROOT
from app.server.settings import START_COMMAND, is_checked

# Without a page title here, the browser tab shows the title of the open page.
st.set_page_config(page_icon=str(ASSETS / "icon.png"), layout="wide")

if not is_checked():
    st.error(
        f"The pages are only available with the checks of the server. Start it in {ROOT}: "
        f"`{START_COMMAND}`",
        title="Wrong start command",
    )
    st.stop()

pages = [
    st.Page(
        "views/classify.py",
        title="Classify",
        icon=":material/biotech:",
        url_path="classify",
        default=True,
    ),
    st.Page("views/data.py", title="Data", icon=":material/folder_open:", url_path="data"),
    st.Page("views/train.py", title="Train", icon=":material/model_training:", url_path="train"),
    st.Page(
        "views/evaluate.py", title="Evaluate", icon=":material/analytics:", url_path="evaluate"
    ),
    st.Page(
        "views/experiments.py",
        title="Experiments",
        icon=":material/science:",
        url_path="experiments",
    ),
    st.Page(
        "views/compare.py", title="Compare", icon=":material/compare_arrows:", url_path="compare"
    ),
]
page = st.navigation(pages)
show_layout()
with catch_errors():
    page.run()
