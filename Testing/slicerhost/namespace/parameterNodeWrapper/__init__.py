"""``slicer.parameterNodeWrapper``: typed access to a parameter node, bound to widgets.

Written for tests from Slicer's documentation; parameter packs, created widgets and custom connectors are left out.
"""

from .annotations import (
    Choice,
    Decimals,
    Default,
    Exclude,
    FloatRange,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
)
from .wrapper import SlicerParameterNamePropertyName, isParameterNodeWrapper, parameterNodeWrapper

__all__ = [
    "Choice",
    "Decimals",
    "Default",
    "Exclude",
    "FloatRange",
    "IsInstance",
    "Maximum",
    "Minimum",
    "NotNone",
    "SingleStep",
    "SlicerParameterNamePropertyName",
    "Validator",
    "WithinRange",
    "isParameterNodeWrapper",
    "parameterNodeWrapper",
]
