"""Pictures on disk: their names, their pixels, the manifest of a data set, and its splits."""
