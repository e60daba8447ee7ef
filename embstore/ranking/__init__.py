"""How well versions recommend: their answers against interactions that were held out.

``lists`` recalls items for users as the nightly job does, ``measures`` looks where what was held
out stands in them, ``bootstrap`` says how sure the means are, ``run`` puts it together.
"""
