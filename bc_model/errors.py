"""Every error the library raises on purpose.

BcModelError
├── DataError (ValueError)          a data set that cannot be used
│   ├── FolderNotFoundError (FileNotFoundError)
│   ├── ImageError                one picture that cannot be read
│   ├── ArchiveError                an archive that is not one, is damaged or not to be trusted
│   ├── SplitError                  a split that cannot be made or does not fit the data
│   └── RecordError                 a JSON record with a wrong key, type or value
├── ConfigError (ValueError)      a setting out of its range, or two that contradict
├── ModelError                      a model that cannot be built, loaded or explained
│   ├── WeightsError                pretrained weights that are missing or are other bytes
│   └── BundleError                 a model folder that does not match its model card
├── EngineBusyError                      more pictures are waiting than the engine takes
└── JobError                        a job that is missing, unreadable or in the wrong state
    ├── RunError                    a run directory that is taken, missing or unreadable
    │   └── RunChangedError         a run whose data or code have changed since it was started
    └── DownloadError               a download that did not finish, or returned other bytes

A message is one sentence a person can act on: what was asked, the rule, what came, what to do.
The command line prints it and exits with 2; the app shows it in a box. Anything that is not a
`BcModelError` is a fault of ours and is logged as one.
"""


class BcModelError(Exception):
    """Base of every error the library raises on purpose."""


class DataError(BcModelError, ValueError):
    """A data set cannot be used as asked."""


class FolderNotFoundError(DataError, FileNotFoundError):
    """A folder that was asked for does not exist or is not a folder."""

    # FileNotFoundError's own __str__ would drop the sentence when it sees a second argument.
    __str__ = Exception.__str__


class ImageError(DataError):
    """One picture cannot be read; the others are not affected.

    Parameters
    ----------
    message : str
        The sentence for a person.
    reason : {'empty', 'unreadable', 'too large', 'too small', 'unsupported', 'misnamed'}
        The word under which an audit counts the picture.
    """

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason


class ArchiveError(DataError):
    """An archive is not one, is damaged, or holds what is never taken in."""


class RecordError(DataError):
    """A JSON record has a missing key, an unknown key or a value that is not allowed."""


class SplitError(DataError):
    """A split cannot be made from this data, or does not fit it."""


class ConfigError(BcModelError, ValueError):
    """A setting is out of range, or two settings contradict each other."""


class ModelError(BcModelError):
    """A model cannot be built, loaded or explained."""


class WeightsError(ModelError):
    """Pretrained weights are missing, cannot be fetched or are not the expected bytes."""


class BundleError(ModelError):
    """A model folder does not match its model card, or has none."""


class EngineBusyError(BcModelError):
    """More pictures are waiting than the engine takes; nothing was computed."""


class JobError(BcModelError):
    """A job is missing, unreadable or in a state that does not allow the action."""


class RunError(JobError):
    """A run directory is taken, missing or unreadable."""


class RunChangedError(RunError):
    """A run cannot be resumed exactly, because its data or code have changed."""


class DownloadError(JobError):
    """A download did not finish, or returned other bytes than the expected ones."""
