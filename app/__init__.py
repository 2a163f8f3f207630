"""The Streamlit app: `main.py` routes to the pages in `views`, built from `components`."""
