"""Features: images become feature maps, in memory and in a cache on disk."""
