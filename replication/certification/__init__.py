"""Certificates of rectifier units, and bounds of the error of what their inverses return."""

from replication.certification.bounds import concluded, inverse_lipschitz, with_error_bound
from replication.certification.certify import certify

__all__ = ["certify", "concluded", "inverse_lipschitz", "with_error_bound"]
