"""Widgets of the Experiments page."""
