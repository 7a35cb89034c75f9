"""The fixtures of this folder."""

from foreign.studies import served, written

__all__ = ["served", "written"]
