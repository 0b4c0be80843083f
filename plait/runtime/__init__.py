"""What every folder may use: devices, threads, memory, files."""
