"""Trainers on one job, ours and others, each as a script of its own; some run in the peers' environment."""
