"""Modules of one's own: what they compute is followed through their forward pass, certified and inverted."""

from replication.reading.general import read
from replication.reading.modules import as_unit, certify, invert

__all__ = ["as_unit", "certify", "invert", "read"]
