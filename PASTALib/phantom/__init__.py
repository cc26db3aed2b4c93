"""A generated torso for tests, demos and teaching: CT and organ map without any patient data."""

from .build import REGIONS, Phantom, make_phantom
from .frame import Variation, phantom_variation

__all__ = ["REGIONS", "Phantom", "Variation", "make_phantom", "phantom_variation"]
