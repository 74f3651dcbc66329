"""Makes the stand-in base: a small XTTS-v2 that espeak-ng has taught ten languages. See README.md and make_base.py."""
