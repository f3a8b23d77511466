"""A force field for a few molecules: labels of a teacher, a fit that starts from a general model, a check, a report."""
