from .arrays import open_weights
from .console import silence_native_stderr
from .csv_table import read_table, table_to_csv
from .formatting import (
    format_count,
    format_duration,
    format_duration_estimate,
    format_probability,
    format_with_threshold,
)
from .io import (
    FileStamp,
    check_writable,
    describe_error,
    file_stamp,
    open_regular,
    read_bytes,
    read_text,
    write_bytes_atomic,
    write_files_atomic,
    write_text_atomic,
)
from .measurement import Metric
from .processor import limit_loaded_threads, require_tensorflow, usable_cores
from .serialization import dumps, to_json

__all__ = [
    "FileStamp",
    "Metric",
    "check_writable",
    "describe_error",
    "dumps",
    "file_stamp",
    "format_count",
    "format_duration",
    "format_duration_estimate",
    "format_probability",
    "format_with_threshold",
    "limit_loaded_threads",
    "open_regular",
    "open_weights",
    "read_bytes",
    "read_table",
    "read_text",
    "require_tensorflow",
    "silence_native_stderr",
    "table_to_csv",
    "to_json",
    "usable_cores",
    "write_bytes_atomic",
    "write_files_atomic",
    "write_text_atomic",
]
