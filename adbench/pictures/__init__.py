"""Pictures: anomaly maps over images, overlays for new images, contact sheets, the maps that a sweep keeps."""
