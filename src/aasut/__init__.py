"""aasut: big model in, small model out, and the proof that it pays."""

__version__ = "0.1.0"
