"""Native survey files of every accepted format, turned into canonical Arrow batches by the schemas."""
