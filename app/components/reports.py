"""A stamp that changes when the report of a run is written again."""

from bc_model.training.run_folder import RunFolder

_FILES = ("report.json", "predictions.csv", "validation_predictions.csv")


def stamp_of(run: RunFolder) -> tuple[int, ...]:
    """Return a value that changes when a run is evaluated again, for use as a cache key."""
    files = [run.evaluation_folder / name for name in _FILES]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
