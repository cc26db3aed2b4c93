"""System libraries that rendering and Qt need: found or named, before anything crashes for want of them."""

from __future__ import annotations

import ctypes
import os
import sys

# What is loaded at run time, and the Debian package that brings it.
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
}
EGL_LIBRARIES = {"libEGL.so.1": "libegl1", "libEGL_mesa.so.0": "libegl-mesa0"}
OSMESA_LIBRARIES = {"libOSMesa.so.8": "libosmesa6"}


def loads(library: str) -> bool:
    """Whether the dynamic loader finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def choose_render_window() -> None:
    """Render off screen with EGL where it is, otherwise with OSMesa; a choice of the user stands."""
    if sys.platform != "linux" or "VTK_DEFAULT_OPENGL_WINDOW" in os.environ:
        return
    egl = all(loads(library) for library in EGL_LIBRARIES)
    os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow" if egl else "vtkOSOpenGLRenderWindow"


def missing_libraries() -> dict[str, str]:
    """Libraries that are not there, with the Debian package of each; empty where all is well or not Linux."""
    if sys.platform != "linux":
        return {}
    missing = {library: package for library, package in QT_LIBRARIES.items() if not loads(library)}
    egl, osmesa = ({k: v for k, v in group.items() if not loads(k)} for group in (EGL_LIBRARIES, OSMESA_LIBRARIES))
    return missing | (egl if osmesa else {})


def missing_line() -> str:
    """One line that names what is missing and how to install it, or an empty string."""
    missing = missing_libraries()
    if not missing:
        return ""
    packages = " ".join(sorted(set(missing.values())))
    return f"missing system libraries {', '.join(sorted(missing))}: apt-get install {packages}"
