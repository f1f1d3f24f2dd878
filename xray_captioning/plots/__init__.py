"""Pictures and pages for people: charts, panels of studies, attention over the pixels, HTML.

They know arrays and strings only; matplotlib and OpenCV are imported when something is drawn.
"""

# ruff: noqa: F401
from xray_captioning.plots.charts import bars, curves, heatmap, histograms, intervals, lines, png, save, scatter, scores
from xray_captioning.plots.images import View, colour_scale, data_uri, encode, overlay, strongest
from xray_captioning.plots.panels import Example, card, panel, words
