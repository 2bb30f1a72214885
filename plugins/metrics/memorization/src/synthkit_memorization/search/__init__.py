"""The best matches of images, exactly: views, rules, bounds, all pairs; and beside them by features of a network."""
