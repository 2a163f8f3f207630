"""Widgets of the Classify page."""
