"""What leaves the program: reports as HTML and PDF, model cards as Markdown.

A report becomes a `Document` once; each writer knows only documents, never reports.
"""
