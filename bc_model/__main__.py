"""``python -m bc_model``: everything the app can do, from a terminal."""

from bc_model.cli import main

main()
