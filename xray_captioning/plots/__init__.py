"""Charts, panels, attention over pixels, HTML, of arrays and strings; matplotlib and OpenCV load when they draw."""

# ruff: noqa: F401
from xray_captioning.plots.charts import bars, curves, heatmap, histograms, intervals, lines, png, save, scatter, scores
from xray_captioning.plots.images import View, colour_scale, data_uri, encode, overlay, strongest
from xray_captioning.plots.panels import Example, card, panel, words
