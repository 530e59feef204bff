"""Which backbone, layer, image size and detector suits a part, judged from good images alone.

Some good training images are held out, and defects are painted on copies of them. Each candidate is fitted to the rest and
scored on both. Test images are read only to verify the ranking on labeled data. After Heckler and König, "Feature Selection
for Unsupervised Anomaly Detection and Localization Using Synthetic Defects" (VISAPP 2024), who rank layers this way.
"""
