"""The exception tree. Every message says what was got, what was expected and how to mend it.

PlaitError
|-- ConfigError      a setting, an override or a recipe
|-- DataError        a source or a data folder
|   `-- RowError     one row of it
|-- TrainingError    a run that cannot go on
|-- CheckpointError  a checkpoint folder
`-- MissingError     a program, package or extra that has to be installed
"""


class PlaitError(ValueError):
    """Base of all errors that a user can mend."""


class ConfigError(PlaitError):
    """A setting is unknown or has an impossible value."""


class DataError(PlaitError):
    """A data source or folder cannot be used."""


class RowError(DataError):
    """A row breaks the row format."""


class TrainingError(PlaitError):
    """A training run cannot go on as configured."""


class CheckpointError(PlaitError):
    """A checkpoint folder is missing, damaged or of another format."""


class MissingError(PlaitError):
    """A program, package or extra is not installed."""
