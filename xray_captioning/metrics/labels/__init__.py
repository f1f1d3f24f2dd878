"""How the labeler reads a report, one module a step, each usable alone.

:mod:`layout` cuts a text into statements, :mod:`spelling` makes one form of each word, :mod:`rules`
holds the data files, whose lines :mod:`automaton` follows, :mod:`scan` finds findings and cues in a
statement, :mod:`statement` decides, and :mod:`details` says where a finding is, how large, and
whether it changed. :mod:`xray_captioning.metrics.labeler` puts them together.
"""
