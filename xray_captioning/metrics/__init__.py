"""Strings in, numbers out; nothing here imports a model.

Most functions compare `references`, one or more texts a study, with `hypotheses`, the texts of a system for the
same studies in the same order; or both are dictionaries of id to text, or to a list of texts. Clinical ones take
labels (`clinical.label_matrix`) as well. All raise a DataError, which names the row, for columns that are empty,
differ in length or ids, have no order or hold anything but text.

``..._statistics`` and `confusion` return a row of counts a study, ``..._rows`` a score a study, ``..._from_...`` the
score of added-up rows, ``..._of_constants`` the scores of systems that say one fixed text of every study.
"""
