"""Strings in, numbers out; nothing here imports a model.

Most functions compare `references`, one or more texts a study, with `hypotheses`, the texts of a system
for the same studies in the same order; or both are dictionaries of id to text, or to a list of texts.
Text metrics split at whitespace; clinical ones take the labels of
:func:`~xray_captioning.metrics.clinical.label_matrix` as well. All raise a DataError, which names the
row, for columns that are empty, differ in length or ids, have no order or hold anything but text.

Names say what a function returns: ``..._statistics``, ``..._counts`` and `confusion` a row of counts a
study, ``..._rows`` a score a study, ``..._from_statistics`` and ``..._from_counts`` the score of added-up
rows, ``..._of_constants`` the scores of systems that say one fixed text of every study.
"""
