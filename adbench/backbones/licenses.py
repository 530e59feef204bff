"""Licenses of weights: which of them forbid commercial use, and what others ask of a user."""

from __future__ import annotations

# Named by timm. DINOv3's own page: https://ai.meta.com/resources/models-and-libraries/dinov3-license/
_TERMS = {
    "dinov3-license": "redistribution needs a copy of the license and publications an acknowledgment; military, nuclear and "
    "trade-controlled uses are excluded; using the weights accepts the license"
}
_FREE = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")  # commercial use is free, with attribution


def is_noncommercial(license: str | None) -> bool:
    """Return whether a license forbids commercial use by its name; False for unknown ones and those with terms of their own."""
    text = (license or "").lower()
    return "-nc-" in text or text.endswith("-nc") or "noncommercial" in text.replace("-", "")


def terms(license: str | None) -> str:
    """Return what a license asks beyond attribution, as a phrase; an empty text if nothing, or if it is unknown."""
    if license is None or license.lower() in _FREE:
        return ""
    if is_noncommercial(license):
        return "no commercial use"
    return _TERMS.get(license, "terms of its own: read them before commercial use")
