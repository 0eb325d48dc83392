"""Numbers as a page shows them: means with intervals, extremes, counts, lists."""

from ..stats import count, extremes, format_interval, interval, listed, number

__all__ = ["count", "extremes", "format_interval", "interval", "listed", "number"]
