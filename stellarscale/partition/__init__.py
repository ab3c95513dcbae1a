"""Functions from one Arrow table to another, one partition at a time: no paths, no dask."""
