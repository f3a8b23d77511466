"""The embedded data set: DFT labels made by this project."""
