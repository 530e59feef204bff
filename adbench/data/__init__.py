"""Images, masks and data sets: reading, checking, folder layouts, generated data and synthetic defects."""
