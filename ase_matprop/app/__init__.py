"""``matprop app``: a page in the browser for those who do not script.

The page runs on the user's own machine and is reached over the loopback interface only.  What it can do are plain
functions of this package, which know nothing of Dash: :mod:`uploads` and :mod:`archives` take files, :mod:`sessions`
keeps what belongs to one tab, :mod:`jobs`, :mod:`predicting` and :mod:`tuning` work in the background, :mod:`rows`,
:mod:`comparison`, :mod:`phases` and :mod:`viewer` make what is shown.  :mod:`layout` and ``callbacks`` put them on the
page, :mod:`server` serves it.
"""
