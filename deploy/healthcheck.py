"""
The image's health check: exit status 0 while /health/ready says 200, else 1; prints what was answered.

With the standard library alone, as the image has no curl. The port is VAE_PORT's, unless that
is Kubernetes' word of a Service called "vae" (tcp://...), which the service does not read either; no proxy is asked.
"""

import http.client
import os
import sys


def main() -> int:
    """Ask the service in this container once, for two seconds at most."""
    port = os.environ.get("VAE_PORT", "")
    connection = http.client.HTTPConnection("127.0.0.1", int(port) if port.isdigit() else 8000, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        reply = connection.getresponse()
        print(reply.status, reply.read(1000).decode("utf-8", "replace"))
    except OSError as error:
        print(f"{connection.host}:{connection.port} does not answer: {error}")
        return 1
    finally:
        connection.close()
    return 0 if reply.status == http.HTTPStatus.OK else 1


if __name__ == "__main__":
    sys.exit(main())
