"""Widgets of the page Experiments."""
