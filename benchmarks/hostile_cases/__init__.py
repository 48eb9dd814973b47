"""Cases of benchmarks/hostile.py, by what is bad: recipes, tables, models, endpoints, requests, commands."""
