"""Volumes that stay in the files where they lie: registered, read in part, held against what they were."""

from radiobject.backends.files.backend import FilesBackend

__all__ = ["FilesBackend"]
