"""The rectifier equation and its maps by kind: of matrices, of convolutions, of convolutions padded at one corner."""

from replication.maps.convolutional import CausalMap, ConvolutionalMap, convolutional_map
from replication.maps.dense import DenseMap
from replication.maps.rectifier import MATRIX_LIMIT, RectifierEquation, RectifierMap

__all__ = [
    "MATRIX_LIMIT",
    "CausalMap",
    "ConvolutionalMap",
    "DenseMap",
    "RectifierEquation",
    "RectifierMap",
    "convolutional_map",
]
