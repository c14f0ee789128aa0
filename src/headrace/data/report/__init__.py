"""A report on prepared data: what there is of each source, what was left out, what the mixture comes to."""
