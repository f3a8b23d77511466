"""A force field for a few molecules: labels of a teacher, a fit that begins at a general model, a check, a report."""
