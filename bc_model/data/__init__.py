"""Pictures on disk: where they come from, their names, their pixels, the manifest, the splits."""
