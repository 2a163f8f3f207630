"""What changes when the report of a run is written anew."""

from bc_model.training.run_folder import RunFolder

_FILES = ("report.json", "predictions.csv", "validation_predictions.csv")


def stamp_of(run: RunFolder) -> tuple[int, ...]:
    """Return what changes when a run is evaluated again, so that no old answer is shown."""
    files = [run.evaluation_folder / name for name in _FILES]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in files)
