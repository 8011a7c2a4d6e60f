# Serves worlds to others, see docs/serving.md.
#
#   docker build -t genie .                             for the CPU
#   docker build -t genie --build-arg VARIANT=cuda .    for NVIDIA GPUs: docker run --gpus all ...
#   export GENIE_TOKEN=$(openssl rand -hex 32)
#   docker run -e GENIE_TOKEN -p 127.0.0.1:8000:8000 -v $PWD/runs:/worlds:ro \
#     genie /worlds/coinrun
FROM python:3.11-slim

ARG VARIANT=cpu
WORKDIR /genie
COPY constraints.txt ./
# From PyPI, torch brings CUDA along.
RUN case "$VARIANT" in \
      cpu) index=https://download.pytorch.org/whl/cpu ;; \
      cuda) index=https://pypi.org/simple ;; \
      *) echo "VARIANT is cpu or cuda, not $VARIANT" >&2; exit 1 ;; \
    esac && \
    pip install --no-cache-dir --index-url "$index" --extra-index-url https://pypi.org/simple \
      -c constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir -c constraints.txt '.[serve]' && rm -rf /genie/*

RUN useradd --create-home --uid 10001 genie
USER genie
WORKDIR /home/genie
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["genie", "serve", "--host", "0.0.0.0"]
CMD ["coinrun-tiny"]
