"""The subcommands of `vae-train`, one a file: files in, files out, a few lines on stdout. The work is elsewhere."""
