# Two images: `--target node` runs nodes and labs, `--target operator` the operator.
# Any image with Python 3.11 or later and venv will do as BASE_IMAGE.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS tools
ARG PIP_CERT
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# Whatever an index offers, only files of these hashes are installed: `make lock` writes them.
COPY operator/build.lock ./
RUN python3 -m venv /tools \
    && /tools/bin/pip install --quiet --require-hashes --requirement build.lock \
    && python3 -m venv --without-pip /opt/p2pnet

FROM tools AS wheel
ARG VERSION=0.1.dev0
COPY . ./
RUN SETUPTOOLS_SCM_PRETEND_VERSION="${VERSION}" /tools/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /wheels .

# Dependencies before the wheel: they change less often, and what builds images keeps layers.
FROM tools AS node-files
COPY node/image.lock ./
RUN /tools/bin/pip --python /opt/p2pnet/bin/python install --quiet --require-hashes --requirement image.lock
COPY --from=wheel /wheels /wheels
RUN /tools/bin/pip --python /opt/p2pnet/bin/python install --quiet --no-deps /wheels/*.whl

FROM tools AS operator-files
COPY operator/image.lock ./
RUN /tools/bin/pip --python /opt/p2pnet/bin/python install --quiet --require-hashes --requirement image.lock
COPY --from=wheel /wheels /wheels
RUN /tools/bin/pip --python /opt/p2pnet/bin/python install --quiet --no-deps /wheels/*.whl

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.dev0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=https://p2pnet.io
LABEL org.opencontainers.image.vendor="p2pnet" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.url="https://p2pnet.io" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
# Everything is compiled in the image, whose root is read-only where it runs; modules come from the image alone.
ENV PATH=/opt/p2pnet/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/tmp \
    USER=nonroot \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PYTHONSAFEPATH=1
WORKDIR /tmp
USER 65532:65532

FROM runtime AS operator
LABEL org.opencontainers.image.title="p2pnet-operator" \
      org.opencontainers.image.description="Turns Subnet objects into QUIC peer-to-peer testnets."
COPY --from=operator-files /opt/p2pnet /opt/p2pnet
ENTRYPOINT ["python", "-m", "p2pnet.operator"]

FROM runtime AS node
LABEL org.opencontainers.image.title="p2pnet-node" \
      org.opencontainers.image.description="Nodes and labs of a p2pnet subnet."
COPY --from=node-files /opt/p2pnet /opt/p2pnet
ENTRYPOINT ["python", "-m", "p2pnet.supervisor.pod"]
