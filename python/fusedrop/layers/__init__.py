"""Layers: they hold parameters, gradients and mask keys, and call `fusedrop.functional` for the arithmetic."""

from fusedrop.layers.activation import GELU, Activation, ReLU, Sigmoid, SiLU, Tanh
from fusedrop.layers.base import Layer, Parameter
from fusedrop.layers.conv2d import Conv2d
from fusedrop.layers.dropout import Dropout
from fusedrop.layers.flatten import Flatten
from fusedrop.layers.linear import Linear
from fusedrop.layers.lstm import LSTM
from fusedrop.layers.mask_key import MaskKey
from fusedrop.layers.pooling import AvgPool2d, MaxPool2d
from fusedrop.layers.sequential import Sequential

__all__ = [
    "GELU",
    "LSTM",
    "Activation",
    "AvgPool2d",
    "Conv2d",
    "Dropout",
    "Flatten",
    "Layer",
    "Linear",
    "MaskKey",
    "MaxPool2d",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Tanh",
]
