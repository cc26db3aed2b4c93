"""What may stand in ``Annotated[type, …]``: defaults, validators and hints for the widget."""

from __future__ import annotations

from dataclasses import dataclass


class Default:
    """The value a parameter has until it is set; a generator is called for it when the parameter is first read."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator is not None else self._value


@dataclass(frozen=True)
class Decimals:
    value: int


@dataclass(frozen=True)
class SingleStep:
    value: float


@dataclass(frozen=True)
class FloatRange:
    minimum: float
    maximum: float

    def __post_init__(self):
        if self.minimum > self.maximum:
            raise ValueError(f"a range from {self.minimum} to {self.maximum} is empty")


class Validator:
    """Base of the checks; ``validate`` raises for a value that is not allowed."""

    def validate(self, value) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value) -> None:
        if value is None:
            raise ValueError("value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"value must be a {self.classtype}, is {type(value).__name__} {value!r}")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        if minimum > maximum:
            raise ValueError(f"WithinRange({minimum}, {maximum}) is empty")
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value) -> None:
        for part in (value.minimum, value.maximum) if isinstance(value, FloatRange) else (value,):
            if not self.minimum <= part <= self.maximum:
                raise ValueError(f"value must be within [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices):
        self.choices = list(choices)

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"value must be one of {self.choices}, is {value!r}")


class Exclude(Validator):
    def __init__(self, excluded):
        self.excluded = list(excluded)

    def validate(self, value) -> None:
        if value in self.excluded:
            raise ValueError(f"value must be none of {self.excluded}, is {value!r}")
