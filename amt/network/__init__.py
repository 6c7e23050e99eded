"""The AMT network as the paper describes it, plain and complete. It trains; faster versions must equal it."""

from .config import Config, G, L, S
from .model import AMT, CoarseMotion, Motion, Pair
from .padding import PADDING, Padding

__all__ = ["AMT", "PADDING", "CoarseMotion", "Config", "G", "L", "Motion", "Padding", "Pair", "S"]
