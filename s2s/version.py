"""The version of s2s that is installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("s2s")
except PackageNotFoundError:  # run from a source tree that is not installed
    __version__ = "0.0.0"
