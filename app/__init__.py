"""The Streamlit app: widgets and words. Everything it knows comes from `bc_model`."""
