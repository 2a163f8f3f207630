"""The app's entry: options checked, pages listed, the frame that all of them share."""

import sys
from pathlib import Path

import streamlit as st

# `streamlit run` puts only this file's folder on the path; the packages lie one above.
if (root := str(Path(__file__).resolve().parents[1])) not in sys.path:
    sys.path.insert(0, root)

from app.components.frame import draw_frame, explain_errors
from app.places import ASSETS, ROOT

st.set_page_config(page_title="Breast histology", page_icon=str(ASSETS / "icon.png"), layout="wide")

if st.get_option("browser.gatherUsageStats"):
    st.error(
        f"The settings in .streamlit/config.toml were not found. Start the app from {ROOT}: "
        "`streamlit run app/main.py`",
        title="Started from another folder",
    )
    st.stop()

pages = [
    st.Page("views/diagnose.py", title="Classify", icon=":material/biotech:", default=True),
    st.Page("views/data.py", title="Data", icon=":material/folder_open:"),
    st.Page("views/train.py", title="Train", icon=":material/model_training:"),
    st.Page("views/evaluate.py", title="Evaluate", icon=":material/analytics:"),
    st.Page("views/studies.py", title="Studies", icon=":material/balance:"),
    st.Page("views/compare.py", title="Compare", icon=":material/compare_arrows:"),
]
page = st.navigation(pages)
draw_frame()
with explain_errors():
    page.run()
