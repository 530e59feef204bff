"""Reports: results become tables, figures and sentences."""
