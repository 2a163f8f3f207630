"""Widgets of the page Classify."""
