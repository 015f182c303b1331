"""The likelihoods p(x|z): one file a family, what all must answer in likelihood.py, which one is meant in choose.py."""
