"""The only home of Dask: clients, the map over partitions, receipts, resume and progress."""
