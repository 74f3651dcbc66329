"""Adapts XTTS-v2 to Georgian; the command lines stand beside this package in the checkout."""

__version__ = "0.2.0"
