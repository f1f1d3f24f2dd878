"""How the labeler reads a report, one module a step: :mod:`layout` cuts a text into statements, :mod:`spelling`
makes one form of each word, :mod:`rules` finds findings and cues, :mod:`statement` decides, and :mod:`details` says
where a finding is, how large, and whether it changed.
"""
