"""HATS on disk: pixels, layout, reader, writer, import, margins, verify, export."""
