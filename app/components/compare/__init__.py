"""Widgets of the page Compare."""
