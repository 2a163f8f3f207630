"""Widgets that several pages share; the widgets of one page are in a package of its name."""
