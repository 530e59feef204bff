"""Generated parts and defects, drawn for the data set `demo`."""
