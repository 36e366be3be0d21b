"""The three networks, and the files that their weights come from."""

from codes.networks.bsn import BSN
from codes.networks.edsr import EDSR
from codes.networks.ldn import LDN
from codes.networks.weights import load, read_recipe, read_weights

__all__ = ["BSN", "EDSR", "LDN", "load", "read_recipe", "read_weights"]
