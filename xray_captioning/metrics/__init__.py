"""Strings in, numbers out; nothing here imports a model.

Most functions compare `references`, one or more texts a study (a sequence of str, or of lists of
str), with `hypotheses`, the texts of a system for the same studies in the same order; or both are
dictionaries of id to text, or to a list of texts, and are matched by id. Text metrics
split both at whitespace. The clinical ones read findings out of them, and take the labels of
:func:`~xray_captioning.metrics.clinical.label_matrix` (int8 array, shape (n, 18)) as well. All of
them raise a DataError, which names the row, for columns that are empty, differ in length or ids,
have no order or hold anything but text (:mod:`xray_captioning.metrics.ngrams`).

Intervals and permutations add up the counts or scores of studies, so names say what a function
returns: ``..._statistics``, ``..._counts`` and `confusion` a row of counts a study, ``..._rows`` a
score a study, ``..._from_statistics`` and ``..._from_counts`` the score of added-up rows,
``..._of_constants`` the scores of systems that say one fixed text of every study.
"""
