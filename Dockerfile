# --- build: the dependencies by their hashes, then this project as a wheel ------------------------------------------
FROM python:3.11-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src

COPY requirements.txt ./
RUN python -m venv /opt/partyline \
 && /opt/partyline/bin/python -m pip install --require-hashes -r requirements.txt

# The build tools are pinned with the development tools; none of them reaches the image that runs.
COPY requirements-dev.txt ./
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --require-hashes -r requirements-dev.txt

COPY pyproject.toml README.md LICENSE ./
COPY config ./config
COPY docs ./docs
COPY hub ./hub
COPY providers ./providers
RUN /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/partyline/bin/python -m pip install --no-index --no-deps /wheels/*.whl \
 && /opt/partyline/bin/python -m pip uninstall --yes pip setuptools

# --- run ------------------------------------------------------------------------------------------------------------
FROM python:3.11-slim-bookworm

# PostgreSQL wants to find its user in the passwd file, and a fixed uid keeps the rights on the volume the same.
RUN groupadd --gid 10001 partyline \
 && useradd --uid 10001 --gid 10001 --home-dir /data --no-create-home --shell /usr/sbin/nologin partyline \
 && install --directory --owner=partyline --group=partyline --mode=0700 /data

COPY --from=build /opt/partyline /opt/partyline

# The root file system may be read-only: only /data (a volume) and /tmp (a tmpfs then) are written to.
ENV PATH=/opt/partyline/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PARTYLINE_HOST=0.0.0.0 \
    PARTYLINE_PORT=8080 \
    PARTYLINE_DATA_DIR=/data

# Set PARTYLINE_DATABASE_URL to a PostgreSQL server; without it one is run inside, with its data in the volume.
VOLUME /data
WORKDIR /data
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM

# Alive, not ready: a hub whose database is away spools, and restarting it would help nobody.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PARTYLINE_PORT']), timeout=4); c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]

ENTRYPOINT ["partyline"]
CMD ["serve"]
