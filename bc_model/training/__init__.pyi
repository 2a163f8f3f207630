from .checkpoint import load_weights
from .config import OPTIONS, Option, TrainingConfig, forecast_seconds, measure_gflops
from .devices import computing_in
from .initial_weights import known_at_first
from .inputs import Part
from .resume import ACCEPT_CHANGES, settings_to_resume
from .run import RunFolder, RunPictures, find_run, list_runs, new_run_id, runs_folder
from .run_queue import advance_queue, checked_paths, resume_run, start_run
from .trainer import Trainer, train

__all__ = [
    "ACCEPT_CHANGES",
    "OPTIONS",
    "Option",
    "Part",
    "RunFolder",
    "RunPictures",
    "Trainer",
    "TrainingConfig",
    "advance_queue",
    "checked_paths",
    "computing_in",
    "find_run",
    "forecast_seconds",
    "known_at_first",
    "list_runs",
    "load_weights",
    "measure_gflops",
    "new_run_id",
    "resume_run",
    "runs_folder",
    "settings_to_resume",
    "start_run",
    "train",
]
