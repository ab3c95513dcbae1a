"""Arrays in, arrays out: no Arrow, no files, no Dask."""
