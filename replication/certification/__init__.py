"""Certificates of rectifier units, and bounds of the error of what their inverses return."""

from replication.certification.bounds import inverse_lipschitz, judged, with_error_bound
from replication.certification.certify import certify

__all__ = ["certify", "inverse_lipschitz", "judged", "with_error_bound"]
