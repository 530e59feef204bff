"""Generated parts and defects of the dataset `demo`."""
