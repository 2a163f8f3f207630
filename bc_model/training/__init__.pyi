from .checkpoint import load_weights
from .config import OPTIONS, Option, TrainingConfig, estimate_duration_s, measure_gflops
from .devices import computing_in
from .initial_weights import initialization_leakage
from .inputs import Subset
from .resume import ACCEPT_CHANGES, config_to_resume
from .run import Run, RunImages, find_run, list_runs, new_run_id, runs_dir
from .run_queue import advance_queue, checked_paths, resume_run, start_run
from .trainer import Trainer, train

__all__ = [
    "ACCEPT_CHANGES",
    "OPTIONS",
    "Option",
    "Run",
    "RunImages",
    "Subset",
    "Trainer",
    "TrainingConfig",
    "advance_queue",
    "checked_paths",
    "computing_in",
    "config_to_resume",
    "estimate_duration_s",
    "find_run",
    "initialization_leakage",
    "list_runs",
    "load_weights",
    "measure_gflops",
    "new_run_id",
    "resume_run",
    "runs_dir",
    "start_run",
    "train",
]
