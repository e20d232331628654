"""The version, in one place for code that must not import the whole package."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("nextpixel")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0.1.0+source"
