"""Reports and model cards as HTML, PDF and Markdown, with their charts.

A report becomes a `Document` once. Each writer depends on documents only, not on reports.
"""
