"""A mathematical answer as LaTeX: found in a text, read exactly, compared. No library but the standard one."""
