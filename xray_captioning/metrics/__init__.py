"""Strings in, numbers out; nothing here imports a model.

Most functions compare `references`, one or more texts a study, with `hypotheses`, a system's for the same studies in
the same order; or both are dictionaries by id. Clinical ones take labels (`clinical.label_matrix`) as well. A DataError
names the row where columns are empty, differ in length or ids, have no order or hold anything but text.

``..._statistics`` and `confusion` return a row of counts a study, ``..._rows`` a score a study, ``..._from_...`` the
score of added-up rows, ``..._of_constants`` the scores of systems that say one fixed text of every study.
"""
