# Two stages: the first one builds with the locked tools, the second one only runs.

FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock requirements-dev.lock ./
RUN python -m venv /opt/accord && /opt/accord/bin/pip install --require-hashes -r requirements.lock
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r requirements-dev.lock
COPY . .
RUN /opt/build/bin/python -m hatchling build -t wheel dist \
 && /opt/accord/bin/pip install --no-deps --no-index dist/accord_oms-*.whl \
 && /opt/accord/bin/python -m compileall -q /opt/accord

FROM python:3.13-slim
LABEL org.opencontainers.image.title="accord-oms"
RUN groupadd --gid 10001 accord \
 && useradd --uid 10001 --gid accord --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin accord \
 && install -d -o accord -g accord -m 0700 /data
COPY --from=build /opt/accord /opt/accord
ENV PATH=/opt/accord/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /data
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=5s --timeout=4s --retries=30 CMD ["python", "-m", "cli.health", "http://127.0.0.1:8000/healthz"]
ENTRYPOINT ["accord"]
CMD ["api"]
