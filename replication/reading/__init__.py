"""Modules of one's own: what they compute is followed through their forward pass, certified and inverted."""

from replication.reading.general import read
from replication.reading.models import certify, invert
from replication.reading.modules import as_unit
from replication.reading.networks import as_network

__all__ = ["as_network", "as_unit", "certify", "invert", "read"]
