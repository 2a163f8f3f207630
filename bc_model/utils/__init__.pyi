from .console import native_stderr_silenced
from .formatting import (
    duration_in_words,
    format_probability,
    many,
    probability_in_words,
    rough_duration_in_words,
)
from .io import require_place, write_bytes_atomic, write_text_atomic
from .metric import Metric
from .serialization import dumps, to_json

__all__ = [
    "Metric",
    "dumps",
    "duration_in_words",
    "format_probability",
    "many",
    "native_stderr_silenced",
    "probability_in_words",
    "require_place",
    "rough_duration_in_words",
    "to_json",
    "write_bytes_atomic",
    "write_text_atomic",
]
