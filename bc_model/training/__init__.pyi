from .checkpoint import load_weights
from .config import OPTIONS, Option, TrainingConfig
from .devices import estimate_duration_s, measure_gflops, use_compute_dtype
from .initial_weights import check_initialization_leakage
from .inputs import Subset
from .resume import read_resumable_config
from .run import Run, RunImages, find_run, list_runs, new_run_id, runs_dir
from .run_queue import advance_queue, resolve_paths, resume_run, start_run
from .trainer import Trainer, train

__all__ = [
    "OPTIONS",
    "Option",
    "Run",
    "RunImages",
    "Subset",
    "Trainer",
    "TrainingConfig",
    "advance_queue",
    "check_initialization_leakage",
    "estimate_duration_s",
    "find_run",
    "list_runs",
    "load_weights",
    "measure_gflops",
    "new_run_id",
    "read_resumable_config",
    "resolve_paths",
    "resume_run",
    "runs_dir",
    "start_run",
    "train",
    "use_compute_dtype",
]
