"""Words of any language: what duplicates, contamination, grounding and search compare texts by."""
