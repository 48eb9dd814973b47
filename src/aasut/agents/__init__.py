"""Assistants: models that call tools, within limits, with a trace of all they did."""
