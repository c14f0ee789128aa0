# One recipe, an image for each use; the extras of pyproject.toml decide what is in it.
#
#   docker build --build-arg EXTRAS=serve -t headrace/headrace-serve:0.1.0 .
#   docker build --build-arg EXTRAS=console -t headrace/headrace-console:0.1.0 .
#   docker build --build-arg EXTRAS=demo -t headrace/headrace-python:0.1.0 .
#
# Steps of a pipeline take `demo`: all of it, and the packages whose facts the demo's recipe gathers.
# TORCH=cu130 builds for NVIDIA GPUs. REVISION, a commit, and IMAGE, the name given with -t, are noted with every
# version that the image registers.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG EXTRAS=serve
ARG TORCH=cpu
ENV UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=/opt/headrace
WORKDIR /build
# The dependencies alone: gigabytes that a change of the source must neither rebuild nor push again.
COPY pyproject.toml constraints.txt ./
RUN pip install --no-cache-dir --constraint constraints.txt uv && uv venv "$VIRTUAL_ENV"
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --torch-backend "$TORCH" --constraints constraints.txt \
    $(printf -- '--extra %s ' $(echo "$EXTRAS" | tr ',' ' ')) --requirements pyproject.toml
COPY README.md ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/uv uv build --wheel --out-dir /wheels

FROM python:${PYTHON}-slim-bookworm
ENV PATH=/opt/headrace/bin:$PATH PYTHONUNBUFFERED=1 MLFLOW_DISABLE_TELEMETRY=true
# On GPUs, training compiles its layers and attention: torch writes C for that, too.
ARG TORCH=cpu
RUN if [ "$TORCH" != cpu ]; then apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*; fi
RUN useradd --uid 10001 --create-home headrace
COPY --from=build /opt/headrace /opt/headrace
# Mounted rather than copied in, so that the image holds neither uv nor the wheel beside what it installs.
RUN --mount=from=build,source=/usr/local/bin/uv,target=/usr/local/bin/uv \
    --mount=from=build,source=/wheels,target=/wheels \
    uv pip install --no-cache --offline --no-deps --compile-bytecode --python /opt/headrace /wheels/*.whl
WORKDIR /headrace
COPY components components
COPY pipelines pipelines
COPY dashboards dashboards
USER 10001
ARG REVISION=
ARG IMAGE=
ENV HEADRACE_REVISION=${REVISION} HEADRACE_BUILT_AS=${IMAGE}
ENTRYPOINT []
CMD ["headrace", "--help"]
