# The API with the shipped bundle:
#     docker build -t xray-captioning .
#     docker run --rm -p 127.0.0.1:8080:8080 --read-only --tmpfs /tmp --cap-drop ALL xray-captioning
# Another bundle: -v "$PWD/runs/attention:/bundle:ro" ... xray-captioning --bundle /bundle
FROM python:3.12-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /source
COPY pyproject.toml setup.cfg README.md LICENSE constraints/image.txt ./
COPY xray_captioning xray_captioning
COPY weights weights
RUN pip install --require-hashes -r image.txt && pip install --no-deps --no-build-isolation . && rm -rf /source/*

RUN useradd --system --no-create-home captions
USER captions
WORKDIR /
ENV HOME=/tmp KERAS_HOME=/tmp/keras
EXPOSE 8080
# Readiness, not only life: the model is compiled before requests are taken.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=4)"]
STOPSIGNAL SIGTERM
# Inside a container loopback is the container's own; what is reachable is decided by -p above.
ENTRYPOINT ["xray-captioning", "serve", "--host", "0.0.0.0", "--port", "8080"]
