"""System libraries that rendering and Qt need: found or named, before anything crashes for want of them."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

# What Qt's wheel loads from the system, and the Debian package that brings it.
QT_LIBRARIES = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libX11.so.6": "libx11-6",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libgssapi_krb5.so.2": "libgssapi-krb5-2",
    "libbrotlidec.so.1": "libbrotli1",
    "libzstd.so.1": "libzstd1",
}
OSMESA = "libOSMesa.so.8"
RENDERING = {"a software OpenGL (EGL of Mesa, or OSMesa)": "libegl-mesa0 libgl1-mesa-dri"}
FONT_FOLDERS = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.fonts", "~/.local/share/fonts")
FONT = {"a font": "fonts-dejavu-core"}
EGL_PLATFORM_SURFACELESS = 0x31DD


def loads(library: str) -> bool:
    """Whether the dynamic loader finds a library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def egl_works() -> bool:
    """Whether EGL can be started without a screen: its library may be there and the driver not."""
    if not loads("libEGL.so.1"):
        return False
    egl = ctypes.CDLL("libEGL.so.1")
    if not hasattr(egl, "eglGetPlatformDisplay"):
        return False
    egl.eglGetPlatformDisplay.restype = ctypes.c_void_p
    egl.eglGetPlatformDisplay.argtypes = [ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p]
    egl.eglInitialize.argtypes = [ctypes.c_void_p] * 3
    display = egl.eglGetPlatformDisplay(EGL_PLATFORM_SURFACELESS, None, None)
    return bool(display) and bool(egl.eglInitialize(display, None, None))


def choose_render_window() -> None:
    """Render off screen with EGL where it works, otherwise with OSMesa; a choice of the user stands."""
    if sys.platform == "linux" and "VTK_DEFAULT_OPENGL_WINDOW" not in os.environ:
        os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow" if egl_works() else "vtkOSOpenGLRenderWindow"


def has_font() -> bool:
    folders = (Path(folder).expanduser() for folder in FONT_FOLDERS)
    return any(next(folder.rglob("*.[to]tf"), None) is not None for folder in folders if folder.is_dir())


def missing_libraries() -> dict[str, str]:
    """What is not there, with the Debian packages of each; empty where all is well or the system is not Linux."""
    if sys.platform != "linux":
        return {}
    missing = {library: package for library, package in QT_LIBRARIES.items() if not loads(library)}
    if not (egl_works() or loads(OSMESA)):
        missing |= RENDERING
    return missing if has_font() else missing | FONT


def missing_line() -> str:
    """One line that names what is missing and how to install it, or an empty string."""
    missing = missing_libraries()
    if not missing:
        return ""
    packages = " ".join(sorted(set(" ".join(missing.values()).split())))
    return f"missing for Qt and rendering: {', '.join(sorted(missing))}; run: apt-get install {packages}"
