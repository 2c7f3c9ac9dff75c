"""Every error that Roofline raises on purpose.

Catch `RooflineError` for all of them. Each message says what was expected, what was found, where,
and what to do::

    RooflineError
    ├── InputError (also ValueError): something that was given cannot be used
    │   ├── SettingsError         a settings file
    │   ├── OptionError           an option of a command
    │   ├── TableError            a table: tiles, labels
    │   ├── ImageSourceError      a folder or an archive of pictures
    │   ├── RejectedTile          one picture; its reason stands in rejects.csv
    │   ├── RasterError           a raster, or a folder of tiles made from rasters
    │   ├── BoundaryError         polygons of areas
    │   ├── VectorFileError       embeddings from elsewhere
    │   ├── NetworkError          a backbone, its weights or its runtime
    │   ├── EmbeddingsError       an embeddings file
    │   │   └── UnknownCutError   a cut that is not there; a KeyError too
    │   ├── FeaturesError         features that are damaged or too large for the memory
    │   ├── AuditError            a fatal finding about the data
    │   ├── FitError              a model that cannot be fitted
    │   │   └── DivergedError     a training whose loss is not finite
    │   ├── RunFileError          a file of a fitted cell
    │   ├── KeptModelError        a kept model
    │   ├── PlaceError            a place to be predicted
    │   │   └── PlaceFeaturesError   its features
    │   ├── ExplainError          an explanation
    │   │   └── NoFeatureMapError    a cut without a map
    │   └── ReportError           something that the report shows
    │       └── PdfError          its print
    ├── ExecutionError (also RuntimeError): the machine or the run failed; what is complete is kept
    │   ├── ExtractionError       the extraction cannot start or go on
    │   ├── LockError             a folder is in use, or cannot be written
    │   ├── DecoderError          a process that decodes pictures ended
    │   ├── WorkerError           worker processes or a cluster cannot be started, or ended
    │   └── CheckError            a check of the machine found a fault
    └── MissingPackageError (also ImportError): an optional package is not installed
"""

from __future__ import annotations


class RooflineError(Exception):
    """Base of every error that is raised on purpose."""


class InputError(RooflineError, ValueError):
    """Something that was given cannot be used; the text says what, where, and what to do."""


class SettingsError(InputError):
    """A settings file cannot be used."""


class OptionError(InputError):
    """An option of a command cannot be used."""


class TableError(InputError):
    """A table of tiles or labels cannot be used."""


class ImageSourceError(InputError):
    """A folder or an archive of pictures cannot be used."""


class RejectedTile(InputError):  # noqa: N818
    """One picture cannot be used; the text is its reason in rejects.csv."""


class RasterError(InputError):
    """An elevation raster, or a folder of tiles made from rasters, cannot be used."""


class BoundaryError(InputError):
    """Polygons of areas cannot be used."""


class VectorFileError(InputError):
    """Embeddings from elsewhere cannot be used."""


class NetworkError(InputError):
    """A backbone, its weights or its runtime cannot be used."""


class EmbeddingsError(InputError):
    """An embeddings file is missing, damaged, or of another schema."""


class UnknownCutError(EmbeddingsError, KeyError):
    """A cut that an experiment does not have."""

    __str__ = EmbeddingsError.__str__  # a KeyError would show its text in quotes


class FeaturesError(InputError):
    """Features are damaged, or do not fit into the memory that they may fill."""


class AuditError(InputError):
    """The data have a fatal finding that the settings do not accept."""


class FitError(InputError):
    """A model cannot be fitted."""


class DivergedError(FitError):
    """The loss of a training is not finite."""


class RunFileError(InputError):
    """A file of a fitted cell cannot be used."""


class KeptModelError(InputError):
    """There is no such kept model, or it cannot be used."""


class PlaceError(InputError):
    """A place cannot be predicted."""


class PlaceFeaturesError(PlaceError):
    """The features of a place cannot be made.

    Attributes
    ----------
    code : exit code of the extraction that failed.
    """

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class ExplainError(InputError):
    """A prediction cannot be explained."""


class NoFeatureMapError(ExplainError):
    """A cut has no map whose places could be shown."""


class ReportError(InputError):
    """Something that the report shows cannot be used."""


class PdfError(ReportError):
    """The page cannot be printed."""


class ExecutionError(RooflineError, RuntimeError):
    """The machine or the run failed; what is complete is kept."""


class ExtractionError(ExecutionError):
    """The extraction cannot start or go on."""


class LockError(ExecutionError):
    """A folder is in use by another process, or cannot be written."""


class DecoderError(ExecutionError):
    """A process that decodes pictures ended, or cannot be started.

    Attributes
    ----------
    is_at_work : whether it ended while it decoded the pictures that were asked for.
    """

    def __init__(self, text: str, *, is_at_work: bool = False) -> None:
        super().__init__(text)
        self.is_at_work = is_at_work


class WorkerError(ExecutionError):
    """Worker processes or a cluster cannot be started, or ended before their work."""


class CheckError(ExecutionError):
    """A check of the machine found a fault."""


class MissingPackageError(RooflineError, ImportError):
    """An optional package is not installed."""
