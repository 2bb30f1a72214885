"""Exact search for the best matches of images: views, rules, bounds, kernels."""
