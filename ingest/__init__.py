"""From the bytes of a CSV file to typed, memory-mapped columns."""
