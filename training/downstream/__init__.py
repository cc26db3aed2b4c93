"""The paper's downstream recipes: segmentation with full data and few cases, detection in plain CT, staging and survival, attributes."""
