"""Exact, checked inverses of rectifier networks, and the experiments of the papers about them."""

from replication.certificates import Certificate, Verdict
from replication.networks import LayerwiseNetwork, NetworkCertificate, NetworkSolution, RectifierNetwork
from replication.solvers import (
    Anderson,
    Auto,
    Banach,
    Chebyshev,
    Exact,
    Modulus,
    Newton,
    NewtonCG,
    Pivoting,
    Solution,
    Status,
)
from replication.spanning import directed_spanning_test
from replication.stability import stability
from replication.units import (
    InjectiveConvReLU,
    InjectiveReLU,
    Inverse,
    LipschitzConvUnit,
    MonotoneConvUnit,
    PairedReLU,
    RectifierLinear,
    ResidualUnit,
    StandardConvUnit,
    as_unit,
    invert,
)

__version__ = "0.1.0"

__all__ = [
    "Anderson",
    "Auto",
    "Banach",
    "Certificate",
    "Chebyshev",
    "Exact",
    "InjectiveConvReLU",
    "InjectiveReLU",
    "Inverse",
    "LayerwiseNetwork",
    "LipschitzConvUnit",
    "Modulus",
    "MonotoneConvUnit",
    "NetworkCertificate",
    "NetworkSolution",
    "Newton",
    "NewtonCG",
    "PairedReLU",
    "Pivoting",
    "RectifierLinear",
    "RectifierNetwork",
    "ResidualUnit",
    "Solution",
    "StandardConvUnit",
    "Status",
    "Verdict",
    "as_unit",
    "directed_spanning_test",
    "invert",
    "stability",
]
