"""DFPL: image + table classification when one of the two is often absent."""
