"""The Streamlit app: `main.py` starts `server`, and `router.py` shows the pages in `views`."""
