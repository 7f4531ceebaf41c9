"""Modules of one's own: what they compute is followed through their forward pass, certified and inverted."""

from replication.reading.modules import as_unit, invert

__all__ = ["as_unit", "invert"]
