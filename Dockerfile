# The service, for a CPU or an NVIDIA card, and `vae-train`; docs/decisions/0008-image.md says why it is as it is.
#   docker build --tag vae-serve:cpu .
#   docker build --tag vae-serve:gpu --build-arg EXTRA=gpu .
#   docker build --tag vae-train --target training .
# PYTHON: a tag of the image "python", Debian's slim kind. EXTRA: cpu or gpu, the extra of pyproject.toml.
# PIP_INDEX_URL, PIP_EXTRA_INDEX_URL: pip's package indexes, where they are not its defaults.
ARG PYTHON=3.11-slim-bookworm
ARG EXTRA=cpu

FROM python:${PYTHON} AS base
ENV PYTHONDONTWRITEBYTECODE=1
# The root is read-only when it runs, and python's images bring no byte code of the standard library: compiled once here
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin vae \
    && python -m compileall -q --invalidation-mode unchecked-hash \
        -x '/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|distutils|pydoc_data|(site|dist)-packages)/' \
        "$(python -c 'import os; print(os.path.dirname(os.__file__))')"

# What to install: pyproject.toml's lists alone; a change of the source, or of a linter's rules, reinstalls nothing
FROM base AS requirements
ARG EXTRA
WORKDIR /requirements
COPY pyproject.toml /build/
RUN case "$EXTRA" in cpu) device=cpu ;; gpu) device=cuda ;; \
        *) echo "EXTRA must be cpu or gpu; given: '$EXTRA'" >&2; exit 2 ;; esac \
    && echo "$device" > device \
    && python -c "import tomllib; \
project = tomllib.load(open('/build/pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
service = project['dependencies'] + extras['$EXTRA'] + extras['images']; \
open('service.txt', 'w').write('\n'.join(service)); \
open('training.txt', 'w').write('\n'.join(service + extras['arrow'] + extras['training']))"

FROM base AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv --without-pip /opt/venv

FROM build AS dependencies
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt /build/
COPY --from=requirements /requirements/service.txt /build/
RUN pip --python /opt/venv/bin/python install --no-compile \
        --constraint /build/constraints.txt --requirement /build/service.txt \
    && python -m compileall -q --invalidation-mode unchecked-hash -x '/tests/' /opt/venv/lib \
    && if [ -e /opt/venv/lib/python3*/site-packages/torch ]; then echo "torch is among the dependencies" >&2; exit 1; fi

# pip compiles this one: torch brings files of a newer Python's syntax, over which compileall stumbles
FROM build AS training-dependencies
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
COPY constraints.txt /build/
COPY --from=requirements /requirements/training.txt /build/
RUN pip --python /opt/venv/bin/python install --constraint /build/constraints.txt --requirement /build/training.txt

# The project by itself, beside its dependencies: a change of the source changes a layer of 1 MB, not of 200
FROM build AS project
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY training training
RUN pip wheel --no-deps --wheel-dir dist . \
    && pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index --target /opt/vae-serve dist/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/vae-serve

FROM base AS runtime
ENV PATH=/opt/vae-serve/bin:/opt/venv/bin:$PATH PYTHONPATH=/opt/vae-serve
LABEL org.opencontainers.image.title="vae-serve" \
      org.opencontainers.image.description="Trains variational autoencoders and serves them over HTTP" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM runtime AS training
# torch and matplotlib keep caches at home; mount what is read and written at /data
ENV HOME=/tmp
COPY --from=training-dependencies /opt/venv /opt/venv
COPY --from=project /opt/vae-serve /opt/vae-serve
WORKDIR /data
USER 10001:10001
STOPSIGNAL SIGINT
ENTRYPOINT ["vae-train"]
CMD ["--help"]

FROM runtime AS service
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /opt/vae-serve /opt/vae-serve
COPY --from=requirements /requirements/device /opt/device
COPY deploy/entrypoint.sh deploy/healthcheck.py /opt/
# No model is inside: mount a bundle, or a model directory, at /models, or name another place
ENV VAE_HOST=0.0.0.0 VAE_PORT=8000 VAE_BUNDLE=/models \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
EXPOSE 8000
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 CMD ["python", "/opt/healthcheck.py"]
ENTRYPOINT ["/opt/entrypoint.sh"]
