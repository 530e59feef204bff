"""Which backbone, layer, input size and detector suits a part, judged from good images alone.

Heckler and König, "Feature Selection for Unsupervised Anomaly Detection and Localization Using Synthetic Defects"
(VISAPP 2024), rank layers by their performance on a validation set of synthetic defects. Here candidates of any kind are
ranked so: some good training images are held out, defects are painted on them, and each candidate, fitted to the rest,
is scored on both. Test images are never looked at, unless the ranking itself is to be verified on labelled data.
"""
