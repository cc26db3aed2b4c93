"""One long-lived process for heavy work: it keeps models warm, can live in another Python environment, and may crash without harm.

``Worker`` starts it and talks to it (threads and pipes, no Qt). Programs with an event loop of their own, such as Slicer with QProcess,
take ``interpreter`` for the command line and environment, ``arrays.ArrayFolder`` for the data, and ``protocol`` for what is said.
"""

from .client import Worker
from .handle import Handle
from .protocol import WorkerError

__all__ = ["Handle", "Worker", "WorkerError"]
