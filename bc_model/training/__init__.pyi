from .checkpoint import load_weights
from .config import OPTIONS, Option, TrainingConfig
from .devices import estimate_duration_s, measure_gflops, use_compute_dtype
from .initial_weights import check_initialization_leakage
from .inputs import Subset
from .reference_images import (
    ReferenceImages,
    TrainingReference,
    find_nearest_images,
    find_reference_images,
    find_test_images,
    load_training_reference,
)
from .resume import read_resumable_config
from .run import Run, RunImages, find_run, list_runs, new_run_id, runs_dir
from .run_queue import advance_queue, resolve_paths, resume_run, start_run
from .trainer import Trainer, train

__all__ = [
    "OPTIONS",
    "Option",
    "ReferenceImages",
    "Run",
    "RunImages",
    "Subset",
    "Trainer",
    "TrainingConfig",
    "TrainingReference",
    "advance_queue",
    "check_initialization_leakage",
    "estimate_duration_s",
    "find_nearest_images",
    "find_reference_images",
    "find_run",
    "find_test_images",
    "list_runs",
    "load_training_reference",
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
