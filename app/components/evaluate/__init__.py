"""Widgets of the page Evaluate."""
