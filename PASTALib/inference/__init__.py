"""Running the networks on whole scans: preprocessing, sliding window, segmentation, attributes, features. Needs torch."""
