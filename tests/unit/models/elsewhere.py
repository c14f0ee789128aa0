"""Devices that this machine need not have: nothing is computed on them."""

import torch

from headrace.devices import Device

GPU, XLA = (Device(kind, torch.device("cpu")) for kind in ("cuda", "xla"))
