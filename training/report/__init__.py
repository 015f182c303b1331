"""The report: a bundle, looked at. Each file a noun: what is known, how it is drawn, and a section a question."""
