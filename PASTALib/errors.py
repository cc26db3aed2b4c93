"""The one exception that users see as a single clear line (exit code 2, or a message box in Slicer)."""


class InputError(ValueError):
    """Bad input. The message says what was found, what was wanted and what to do, in one line."""
