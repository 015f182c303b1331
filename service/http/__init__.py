"""One request and its reply over HTTP, whatever the operation: headers, media types, deadlines, refusals."""
