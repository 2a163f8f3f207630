"""Errors that the library raises on purpose.

BcModelError
├── DataError (ValueError)
│   ├── FolderNotFoundError (FileNotFoundError)
│   ├── ImageError
│   ├── ArchiveError
│   ├── SplitError
│   └── RecordError
├── ConfigError (ValueError)
├── ModelError
│   ├── WeightsError
│   ├── BundleError
│   └── ProcessorError
├── BusyError
│   └── EngineBusyError
├── CanceledError
└── JobError
    ├── RunError
    │   └── RunChangedError
    └── DownloadError

Each message states the problem, the expected value, the received value and the next step. The app
and the command line show it unchanged. Any other exception is a bug and is logged.
"""


class BcModelError(Exception):
    """Base class of all errors of the library."""


class DataError(BcModelError, ValueError):
    """The dataset cannot be used."""


class FolderNotFoundError(DataError, FileNotFoundError):
    """The folder does not exist or is not a folder."""

    # With a second argument, FileNotFoundError.__str__ omits the message.
    __str__ = Exception.__str__


class ImageError(DataError):
    """An image cannot be read.

    Parameters
    ----------
    message : str
        Sentence for the user.
    reason : str
        Reason under which a dataset summary counts the image, such as 'empty' or 'too large'.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class ArchiveError(DataError):
    """An archive is damaged, is not an archive, or contains entries that are not allowed."""


class SplitError(DataError):
    """A split cannot be created from the dataset or does not match it."""


class RecordError(DataError):
    """A JSON record has a missing key, an unknown key or an invalid value."""


class ConfigError(BcModelError, ValueError):
    """An option is out of range, or two options contradict each other."""


class ModelError(BcModelError):
    """A model cannot be built, loaded or explained."""


class WeightsError(ModelError):
    """Pretrained weights are missing, cannot be downloaded or have another checksum."""


class BundleError(ModelError):
    """A model directory has no model card or does not match it."""


class ProcessorError(ModelError):
    """The processor of this machine cannot run TensorFlow."""


class BusyError(BcModelError):
    """Too many requests are waiting, and this one was not started. It succeeds later."""


class CanceledError(BcModelError):
    """The result is no longer needed, because its session was closed."""


class EngineBusyError(BusyError):
    """The queue of the engine is full, and no prediction was computed."""


class JobError(BcModelError):
    """A job is missing, unreadable or in a state that does not allow the action."""


class RunError(JobError):
    """A run directory already exists, is missing or is unreadable."""


class RunChangedError(RunError):
    """A run cannot be resumed exactly because its data or code have changed."""


class DownloadError(JobError):
    """A download is incomplete or has another checksum."""
