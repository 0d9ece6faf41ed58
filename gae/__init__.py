"""The deployment kit: what makes sense only once Beaker is hosted, on a laptop or at Google."""
